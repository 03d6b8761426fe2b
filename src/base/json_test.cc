#include "base/json.h"

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

TEST(Json, TypedAccess) {
  const Json json = parse_json(R"({"n": 2048.0, "x": 1e-5, "s": "t", "u": 18446744073709551615})", "c");
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
