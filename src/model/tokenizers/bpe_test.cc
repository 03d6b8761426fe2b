#include "model/tokenizers/bpe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "base/error.h"

namespace fewbits {
namespace {

using ::testing::ElementsAre;

Vocabulary vocabulary_of(const std::vector<std::string>& texts) {
  std::vector<VocabularyEntry> entries;
  for (const std::string& text : texts) {
    entries.push_back({text, -static_cast<float>(entries.size()), TokenKind::kNormal});
  }
  return Vocabulary(std::move(entries), "test");
}

std::vector<Token> encode(const Bpe& bpe, const std::string& word) {
  std::vector<Token> tokens;
  Words words;
  words.text = word;
  if (!word.empty()) words.ranges = {{0, static_cast<int64_t>(word.size())}};
  bpe.encode(words, tokens);
  return tokens;
}

/// The definition, word for word: look at all pairs, merge the best, start again.
std::vector<Token> encode_slowly(const Bpe& bpe, std::vector<Token> symbols) {
  for (;;) {
    size_t best = symbols.size();
    uint32_t best_rank = UINT32_MAX;
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      const Merge* merge = bpe.merges().find(symbols[i], symbols[i + 1]);
      if (merge != nullptr && merge->rank < best_rank) {
        best = i;
        best_rank = merge->rank;
      }
    }
    if (best == symbols.size()) return symbols;
    symbols[best] = bpe.merges().find(symbols[best], symbols[best + 1])->merged;
    symbols.erase(symbols.begin() + static_cast<int64_t>(best) + 1);
  }
}

TEST(Bpe, MergesByRankThenFromTheLeft) {
  const auto vocabulary = vocabulary_of({"a", "b", "c", "aa", "bc", "aab"});
  const auto bpe = Bpe::from_merges(vocabulary, {{"b", "c"}, {"a", "a"}, {"aa", "b"}}, {}, "test");
  EXPECT_THAT(encode(*bpe, "aaa"), ElementsAre(3, 0));
  EXPECT_THAT(encode(*bpe, "aabc"), ElementsAre(3, 4));
  EXPECT_THAT(encode(*bpe, "aab"), ElementsAre(5));
  EXPECT_THAT(encode(*bpe, ""), ElementsAre());
}

TEST(Bpe, IsTheDefinitionOnRandomMerges) {
  EXPECT_TRUE(rc::check("heap and definition give the same tokens", [] {
    std::vector<std::string> texts = {"a", "b", "c"};
    Bpe::MergeList merges;
    const auto picks = *rc::gen::container<std::vector<std::pair<unsigned, unsigned>>>(
        12, rc::gen::pair(rc::gen::arbitrary<unsigned>(), rc::gen::arbitrary<unsigned>()));
    for (const auto& [left, right] : picks) {
      const std::string first = texts[left % texts.size()];
      const std::string second = texts[right % texts.size()];
      const std::string joined = first + second;
      if (std::ranges::find(texts, joined) == texts.end()) texts.push_back(joined);
      merges.emplace_back(first, second);
    }
    const auto vocabulary = vocabulary_of(texts);
    const bool by_score = *rc::gen::arbitrary<bool>();
    const auto bpe = by_score ? Bpe::from_scores(vocabulary, {})
                              : Bpe::from_merges(vocabulary, merges, {}, "test");
    const auto word = *rc::gen::container<std::string>(rc::gen::element('a', 'b', 'c'));
    std::vector<Token> symbols;
    for (const char c : word) symbols.push_back(c - 'a');
    RC_ASSERT(encode(*bpe, word) == encode_slowly(*bpe, symbols));
  }));
}

TEST(Bpe, ByteFallbackUnknownAndDropped) {
  const auto vocabulary = vocabulary_of({"?", "a", "<0xC3>", "<0xA9>"});
  Bpe::Options options;
  EXPECT_THAT(encode(*Bpe::from_merges(vocabulary, {}, options, "test"), "xa"), ElementsAre(1));
  options.unknown = 0;
  EXPECT_THAT(encode(*Bpe::from_merges(vocabulary, {}, options, "test"), "xyax"),
              ElementsAre(0, 0, 1, 0));
  options.fuse_unknown = true;
  EXPECT_THAT(encode(*Bpe::from_merges(vocabulary, {}, options, "test"), "xyax"),
              ElementsAre(0, 1, 0));
  options.byte_fallback = true;
  EXPECT_THAT(encode(*Bpe::from_merges(vocabulary, {}, options, "test"), "a\u00e9\u20ac"),
              ElementsAre(1, 2, 3, 0));
  EXPECT_THAT(encode(*Bpe::from_merges(vocabulary, {}, options, "test"), "\xC3"), ElementsAre(2));
}

TEST(Bpe, ScoresMergeCharactersThatAreNoTokens) {
  const auto vocabulary = vocabulary_of({"?", "ab", "abc", "<0x61>"});
  Bpe::Options options;
  options.byte_fallback = true;
  options.unknown = 0;
  const auto bpe = Bpe::from_scores(vocabulary, options);
  EXPECT_THAT(encode(*bpe, "abc"), ElementsAre(2));
  EXPECT_THAT(encode(*bpe, "aba"), ElementsAre(1, 3));
  EXPECT_THAT(encode(*bpe, "b"), ElementsAre(0));
}

TEST(Bpe, IgnoreMergesTakesAWholeToken) {
  const auto vocabulary = vocabulary_of({"a", "b", "\u0120", "\u0120ab"});
  Bpe::Options options;
  options.byte_level = true;
  EXPECT_THAT(encode(*Bpe::from_merges(vocabulary, {}, options, "test"), " ab"),
              ElementsAre(2, 0, 1));
  options.ignore_merges = true;
  EXPECT_THAT(encode(*Bpe::from_merges(vocabulary, {}, options, "test"), " ab"), ElementsAre(3));
}

TEST(Bpe, CuttingAtSpaceMarksChangesNothing) {
  const std::string mark = "\u2581";
  const auto whole = vocabulary_of({mark, "a", "b", mark + "a", mark + mark, "ab", mark + "ab"});
  // The same with one token that a cut would destroy, so nothing is cut.
  const auto crossing =
      vocabulary_of({mark, "a", "b", mark + "a", mark + mark, "ab", mark + "ab", "c" + mark});
  Bpe::Options options;
  options.unknown = 1;
  EXPECT_TRUE(rc::check([&] {
    const auto letters = *rc::gen::container<std::string>(rc::gen::element('a', 'b', '_', '\xC3'));
    std::string text;
    for (int i = 0; i < 40; ++i) text += letters;  // long enough for the cache
    for (size_t at; (at = text.find('_')) != std::string::npos;) text.replace(at, 1, mark);
    RC_ASSERT(encode(*Bpe::from_scores(whole, options), text) ==
              encode(*Bpe::from_scores(crossing, options), text));
  }));
}

TEST(Bpe, AMegabyteWithoutSpaces) {
  std::vector<std::string> texts = {"a"};
  Bpe::MergeList merges;
  for (int i = 0; i < 12; ++i) {
    merges.emplace_back(texts.back(), texts.back());
    texts.push_back(texts.back() + texts.back());
  }
  const auto vocabulary = vocabulary_of(texts);
  const auto bpe = Bpe::from_merges(vocabulary, merges, {}, "test");
  const auto tokens = encode(*bpe, std::string(1 << 20, 'a'));
  EXPECT_EQ(tokens, std::vector<Token>(256, 12));
}

TEST(Bpe, RefusesMergesOfWhatIsNoToken) {
  const auto vocabulary = vocabulary_of({"a", "b"});
  EXPECT_THROW(Bpe::from_merges(vocabulary, {{"a", "b"}}, {}, "test"), Error);
  EXPECT_THROW(Bpe::from_merges(vocabulary, {{"a", "c"}}, {}, "test"), Error);
}

TEST(Vocabulary, RefusesTheSameTextTwice) {
  EXPECT_THROW(vocabulary_of({"a", "b", "a"}), Error);
}

}  // namespace
}  // namespace fewbits
