#include "model/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <optional>

#include "base/error.h"
#include "base/source_dir.h"

namespace fewbits {
namespace {

/// The text, or nothing and the error.
std::optional<std::string> rendered(const std::string& source, const Json& context,
                                    std::string& error) {
  try {
    return ChatTemplate(source).render(context);
  } catch (const Error& refused) {
    error = refused.what();
    return std::nullopt;
  }
}

void expect_equal_to_jinja2(const std::filesystem::path& cases) {
  const Json file = read_json_file(cases);
  for (const Json& test : file["cases"]) {
    ASSERT_EQ(test["texts"].size(), file["contexts"].size());
    for (size_t i = 0; i < test["texts"].size(); ++i) {
      SCOPED_TRACE(test["name"].get<std::string>() + ", context " + std::to_string(i));
      const Json& expected = test["texts"][i];
      std::string error;
      const auto text = rendered(test["source"].get<std::string>(), file["contexts"][i], error);
      if (expected.is_null()) {
        EXPECT_FALSE(text.has_value()) << *text;
      } else {
        EXPECT_TRUE(text.has_value()) << error;
        EXPECT_EQ(text.value_or(""), expected.get<std::string>());
      }
    }
  }
}

// What jinja2 made of the templates; tests/golden/templates/make_golden.py wrote it.
const std::filesystem::path kGolden = source_dir() / "tests/golden/templates";

TEST(ChatTemplateGolden, conversations_equal_jinja2) {
  expect_equal_to_jinja2(kGolden / "conversations_cases.json");
}

TEST(ChatTemplateGolden, snippets_equal_jinja2) {
  expect_equal_to_jinja2(kGolden / "snippets_cases.json");
}

/// tests/interop/chat_templates.py brings cases from real models' templates.
TEST(ChatTemplateGolden, brought_cases_equal_jinja2) {
  const char* cases = std::getenv("FEWBITS_CHAT_CASES");
  if (cases == nullptr) GTEST_SKIP() << "FEWBITS_CHAT_CASES names no case file";
  expect_equal_to_jinja2(cases);
}

std::string error_of(const std::string& source) {
  std::string error;
  const auto text = rendered(source, Json::object(), error);
  EXPECT_FALSE(text.has_value()) << source.substr(0, 80) << " -> " << text->substr(0, 80);
  return error;
}

TEST(ChatTemplate, errors_name_line_and_construct) {
  EXPECT_EQ(error_of("a\n{{ b.c }}"), "chat template, line 2: 'b' is undefined");
  EXPECT_EQ(error_of("\n{{ raise_exception('no tools here') }}"),
            "chat template, line 2: no tools here");
  EXPECT_EQ(error_of("{% call f() %}"),
            "chat template, line 1: the tag 'call' is not supported here");
  EXPECT_EQ(error_of("\n\n{{ 1 | wordwrap }}"),
            "chat template, line 3: no filter is named 'wordwrap'");
  EXPECT_EQ(error_of("{{ 'x'.zfill(3) }}"),
            "chat template, line 1: the method str.zfill is not supported");
  EXPECT_EQ(error_of("{% for x in y recursive %}{% endfor %}"),
            "chat template, line 1: 'recursive' loops are not supported");
  EXPECT_EQ(error_of("{% if x %}"), "chat template, line 1: 'endif' is missing");
  EXPECT_EQ(error_of("{% set x.y = 1 %}"),
            "chat template, line 1: 'x' is no namespace(): only these have attributes to set");
}

TEST(ChatTemplate, time_is_bounded) {
  EXPECT_THAT(error_of("{% for a in range(99999) %}{% for b in range(99999) %}"
                       "{% endfor %}{% endfor %}"),
              testing::HasSubstr("steps"));
  EXPECT_THAT(error_of("{% macro m() %}{% for i in range(9) %}{{ m() }}{% endfor %}"
                       "{% endmacro %}{{ m() }}"),
              testing::HasSubstr("nested deeper"));
  // a list of two of itself, 99 times over: 2^99 items to compare
  EXPECT_THAT(error_of("{% set ns = namespace(x=[], y=[]) %}{% for i in range(99) %}"
                       "{% set ns.x = [ns.x, ns.x] %}{% set ns.y = [ns.y, ns.y] %}{% endfor %}"
                       "{{ ns.x == ns.y }}"),
              testing::HasSubstr("steps"));
}

TEST(ChatTemplate, memory_is_bounded) {
  EXPECT_THAT(error_of("{% set ns = namespace(x='ab') %}{% for i in range(99) %}"
                       "{% set ns.x = ns.x + ns.x %}{% endfor %}"),
              testing::HasSubstr("MiB"));
  EXPECT_THAT(error_of("{{ 'x' * 999999999999 }}"), testing::HasSubstr("steps"));
  EXPECT_THAT(error_of("{{ 'x' | indent(999999999999, true) }}"), testing::HasSubstr("steps"));
  EXPECT_THAT(error_of("{{ range(1000000) | list }}"), testing::HasSubstr("range"));
}

TEST(ChatTemplate, depth_is_bounded) {
  const auto many = [](const std::string& piece) {
    std::string text;
    for (int i = 0; i < 100000; ++i) text += piece;
    return text;
  };
  for (const char* piece : {"(", "[", "{1:", "-", "not ", "a.", "f(", "1 if 1 else "}) {
    EXPECT_THAT(error_of("{{ " + many(piece)), testing::HasSubstr("chat template")) << piece;
  }
  EXPECT_THAT(error_of(many("{% if 1 %}")), testing::HasSubstr("nested deeper"));
  EXPECT_THAT(error_of("{{ 1" + many(" + 1") + " }}"), testing::HasSubstr("nested deeper"));
  EXPECT_THAT(error_of("{{ x" + many(" | upper") + " }}"), testing::HasSubstr("nested deeper"));
  EXPECT_THAT(error_of("{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}"),
              testing::HasSubstr("nested deeper"));
  EXPECT_THAT(error_of("{% set ns = namespace() %}{% set ns.a = [ns] %}{{ ns }}"),
              testing::HasSubstr("nested deeper"));
}

TEST(ChatTemplate, a_macro_is_gone_with_the_block_that_defines_it) {
  EXPECT_THAT(error_of("{% set ns = namespace() %}{% for i in [1] %}{% macro m() %}{% endmacro %}"
                       "{% set ns.m = m %}{% endfor %}{{ ns.m() }}"),
              testing::HasSubstr("outside the block"));
}

TEST(ChatTemplate, takes_bytes_that_are_no_utf8) {
  EXPECT_EQ(ChatTemplate("\xff{{ x | upper | trim ~ x[0] }}").render({{"x", "a\xc3"}}),
            "\xff"
            "A\xc3"
            "a");
}

TEST(ChatTemplate, the_context_must_be_an_object) {
  EXPECT_THROW(ChatTemplate("").render(Json::array()), Error);
}

}  // namespace
}  // namespace fewbits
