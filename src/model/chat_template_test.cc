#include "model/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <optional>

#include "base/error.h"

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
const std::filesystem::path kGolden = FEWBITS_SOURCE_DIR "/tests/golden/templates";

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

}  // namespace
}  // namespace fewbits
