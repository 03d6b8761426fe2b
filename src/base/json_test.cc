#include "base/json.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace fewbits {
namespace {

std::string message_of(std::string_view text) {
  try {
    parse_json(text, "x.json");
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(Json, RefusesWhatNoModelFileHas) {
  EXPECT_EQ(message_of(R"({"a": 1, "b": {"a": 2}})"), "");
  EXPECT_EQ(message_of(R"({"a": 1, "a": 2})"), "x.json: duplicate JSON key 'a'");
  EXPECT_EQ(message_of(std::string(100, '[')), "x.json: JSON nested deeper than 64");
  EXPECT_EQ(message_of("{\"a\": ").substr(0, 16), "x.json: bad JSON");
  EXPECT_EQ(message_of("\"\xff\"").substr(0, 16), "x.json: bad JSON");
}

TEST(Json, KeepsOrderAndKinds) {
  const std::string text = R"({"z":[1,-2,3.5,true,null,{}],"a":{"":"\u00e9","b":[[],{"c":0}]}})";
  EXPECT_EQ(parse_json(text, "x").dump(), Json::parse(text).dump());
  EXPECT_EQ(parse_json(" 7 ", "x"), Json(7));
  EXPECT_EQ(message_of("[1] 2").substr(0, 16), "x.json: bad JSON");
  EXPECT_EQ(message_of("[1e999]").substr(0, 16), "x.json: bad JSON");
  EXPECT_EQ(message_of("").substr(0, 16), "x.json: bad JSON");
}

TEST(Json, NestingUpToTheLimit) {
  EXPECT_EQ(message_of(std::string(64, '[') + std::string(64, ']')), "");
  EXPECT_EQ(message_of(std::string(65, '[') + std::string(65, ']')),
            "x.json: JSON nested deeper than 64");
}

// Quadratic time would make this take a minute.
TEST(Json, ObjectsOfManyKeys) {
  std::string text = "{";
  for (int i = 0; i < 300'000; ++i) text += fmt::format("\"token{}\":{},", i, i);
  text.back() = '}';
  EXPECT_EQ(parse_json(text, "x").size(), 300'000u);
}

TEST(Json, TypedAccess) {
  const Json json =
      parse_json(R"({"n": 2048.0, "x": 1e-5, "s": "t", "u": 18446744073709551615})", "c");
  EXPECT_EQ(json_integer(json, "n", "c"), 2048);
  EXPECT_EQ(json_number(json, "x", "c"), 1e-5);
  EXPECT_EQ(json_integer_or(json, "none", 7, "c"), 7);
  EXPECT_THROW(json_integer(json, "x", "c"), Error);
  EXPECT_THROW(json_integer(json, "u", "c"), Error);
  EXPECT_THROW(json_string(json, "n", "c"), Error);
  EXPECT_THROW(json_integer(parse_json("[]", "c"), "n", "c"), Error);
}

}  // namespace
}  // namespace fewbits
