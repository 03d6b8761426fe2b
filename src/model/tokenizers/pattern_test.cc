#include "model/tokenizers/pattern.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "model/tokenizers/oniguruma.h"
#include "model/tokenizers/pre_names.h"

namespace fewbits {
namespace {

using ::testing::ElementsAre;

std::vector<std::string> matches(std::string_view expression, std::string_view text) {
  const TextPattern pattern = TextPattern::regex(expression, "test");
  PatternFinder finder(pattern);
  finder.start(text);
  std::vector<std::string> found;
  while (const auto match = finder.next()) found.emplace_back(slice(text, *match));
  return found;
}

TEST(Pattern, FindsLiteralsWithoutOverlap) {
  EXPECT_EQ(replace_matches("aaa-a", TextPattern::literal("aa"), "x"), "xa-a");
  EXPECT_EQ(replace_matches("abc", TextPattern::literal(""), "x"), "abc");
}

TEST(Pattern, SpaceIsUnicodesWhiteSpace) {
  EXPECT_THAT(matches("\\s", "a \u00a0\u3000\u180e\u200b"), ElementsAre(" ", "\u00a0", "\u3000"));
  EXPECT_THAT(matches("[^\\sa]", "a \u180e"), ElementsAre("\u180e"));
  EXPECT_THAT(matches("\\S+", "a \u180e"), ElementsAre("a", "\u180e"));
}

TEST(Pattern, TranslatesWhatOnigurumaMeans) {
  EXPECT_THAT(matches("\\h+", "xBEg f"), ElementsAre("BE", "f"));
  EXPECT_THAT(matches("\\w+", "a\u0301_9-b"), ElementsAre("a\u0301_9", "b"));
  EXPECT_THAT(matches("\\W", "a b"), ElementsAre(" "));
  EXPECT_THAT(matches("[a[bc]]+", "[abc]"), ElementsAre("abc"));
  EXPECT_THAT(matches("[[:alpha:]]+", "ab1"), ElementsAre("ab"));
  EXPECT_THAT(matches("^x", "x\nx"), ElementsAre("x", "x"));
  EXPECT_THAT(matches("(?i:'s)", "'S '\u017f"), ElementsAre("'S", "'\u017f"));
  EXPECT_EQ(pcre2_from_oniguruma("\\p{Han}\\p{^Latin}\\P{Pc}", "test"),
            "\\p{sc:Han}\\P{sc:Latin}\\P{Pc}");
}

TEST(Pattern, KnowsTheCharactersOfUnicode16) {
  // A letter and a digit of Unicode 15, a letter and a mark of 16.
  const std::string text = "a\U00011F28\U00011F50\U000105C0\u0897";
  EXPECT_THAT(matches("\\p{L}+", text), ElementsAre("a\U00011F28", "\U000105C0"));
  EXPECT_THAT(matches("[^\\s\\p{L}]+", text), ElementsAre("\U00011F50", "\u0897"));
  EXPECT_THAT(matches("\\P{L}+", text), ElementsAre("\U00011F50", "\u0897"));
  EXPECT_THAT(matches("\\d", text), ElementsAre("\U00011F50"));
  EXPECT_THAT(matches("\\w+", text), ElementsAre(text));
}

TEST(Pattern, RefusesWhatItCannotTranslate) {
  for (const char* expression :
       {"[a&&b]", "[a[^b]]", "a{1,2}+", "(*UTF)", "[\\W]", "\\", "\\H", "[]", "(", "\\C", "*"}) {
    EXPECT_THROW(TextPattern::regex(expression, "test"), Error) << expression;
  }
  EXPECT_THROW(TextPattern::regex(std::string(100'000, 'a'), "test"), Error);
}

TEST(Pattern, EmptyMatchesEndAndMoveOn) {
  EXPECT_THAT(matches("x*", "axxb"), ElementsAre("", "xx", ""));
  EXPECT_THAT(matches("", "\u00e9"), ElementsAre("", ""));
  EXPECT_THAT(matches("(?=b)", "ab"), ElementsAre(""));
}

TEST(Pattern, AHostileExpressionEndsInAnError) {
  const std::string text = std::string(5000, 'a') + "b";
  EXPECT_THROW(matches("(a+)+[cd]", text), Error);
}

TEST(Pattern, LongTextsNeedNoDeepStack) {
  const std::string text(1'000'000, 'a');
  EXPECT_THAT(matches("(?:a|b)+", text), ElementsAre(text));
}

TEST(PreNames, EveryExpressionCompilesAndNamesAreUnique) {
  std::vector<std::string_view> seen;
  for (const PreName& name : pre_names()) {
    EXPECT_THAT(seen, ::testing::Not(::testing::Contains(name.name)));
    seen.push_back(name.name);
    for (const std::string_view expression : name.expressions) {
      EXPECT_NO_THROW(TextPattern::regex(expression, "test"));
    }
    EXPECT_EQ(&find_pre_name(name.name, "test"), &name);
  }
  EXPECT_THROW(find_pre_name("llama-pbe", "test"), Error);
}

}  // namespace
}  // namespace fewbits
