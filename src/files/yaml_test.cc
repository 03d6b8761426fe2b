#include "files/yaml.h"

#include <gtest/gtest.h>

#include <string>

#include "base/error.h"

namespace fewbits {
namespace {

TEST(Yaml, MappingsListsAndScalarsThatStayText) {
  const Json json = parse_yaml(R"(# a comment
to: Q4_K_M
samples: 128   # not a number here
pure: yes
calibrate: [a.txt, "b c.txt"]
tensor:
  'blk.*.ffn_down*': Q6_K
list:
- x
- y: z
)",
                               "r.yaml");
  EXPECT_EQ(json, (Json{{"to", "Q4_K_M"},
                        {"samples", "128"},
                        {"pure", "yes"},
                        {"calibrate", {"a.txt", "b c.txt"}},
                        {"tensor", {{"blk.*.ffn_down*", "Q6_K"}}},
                        {"list", Json::array({"x", Json{{"y", "z"}}})}}));
  EXPECT_TRUE(parse_yaml("# nothing\n", "r.yaml").is_null());
  EXPECT_TRUE(parse_yaml("", "r.yaml").is_null());
}

TEST(Yaml, WhatIsWrongIsSaidWithItsLine) {
  const auto expect_error = [](const std::string& text, const std::string& says) {
    try {
      parse_yaml(text, "r.yaml");
      ADD_FAILURE() << text;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("r.yaml, line"), std::string::npos) << error.what();
      EXPECT_NE(std::string(error.what()).find(says), std::string::npos) << error.what();
    }
  };
  expect_error("a: 1\na: 2\n", "line 2: 'a' comes twice");
  expect_error("a: [1, 2\n", "line 2");
  expect_error("a: &x 1\nb: *x\n", "anchors");
  expect_error("? [a]\n: b\n", "a key must be a name");
  expect_error("a: 1\n---\nb: 2\n", "one document");
  expect_error("a: \xff\n", "line");
  expect_error(std::string(100, '[') + std::string(100, ']'), "nested too deeply");
}

}  // namespace
}  // namespace fewbits
