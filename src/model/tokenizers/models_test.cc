// WordPiece and Unigram, alone and against their definitions; the reader of SentencePiece's files.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "base/error.h"
#include "model/tokenizer.h"
#include "model/tokenizers/prefix_trie.h"
#include "model/tokenizers/unigram.h"
#include "model/tokenizers/word_piece.h"

namespace fewbits {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

Vocabulary vocabulary_of(const std::vector<std::string>& texts) {
  std::vector<VocabularyEntry> entries;
  for (const std::string& text : texts) entries.push_back({text, 0, TokenKind::kNormal});
  return Vocabulary(std::move(entries), "test");
}

std::vector<Token> encode(const TokenModel& model, const std::string& word) {
  Words words{word, {}};
  if (!word.empty()) words.ranges.push_back({0, static_cast<int64_t>(word.size())});
  std::vector<Token> tokens;
  model.encode(words, tokens);
  return tokens;
}

TEST(PrefixTrie, FindsEveryPrefix) {
  const PrefixTrie trie({{"a", 1}, {"abc", 2}, {"b", 3}, {"", 9}, {"a\xFF", 4}, {"abc", 5}});
  const auto found = [&](std::string_view text) {
    std::vector<Token> tokens;
    int32_t node = PrefixTrie::kRoot;
    for (const char byte : text) {
      node = trie.child(node, byte);
      if (node == PrefixTrie::kNone) break;
      if (trie.token(node) >= 0) tokens.push_back(trie.token(node));
    }
    return tokens;
  };
  EXPECT_THAT(found("abcd"), ElementsAre(1, 5));
  EXPECT_THAT(found("ac"), ElementsAre(1));
  EXPECT_THAT(found("a\xFF"), ElementsAre(1, 4));
  EXPECT_THAT(found("ca"), ElementsAre());
  EXPECT_EQ(PrefixTrie().child(PrefixTrie::kRoot, 'a'), PrefixTrie::kNone);
}

TEST(WordPiece, TakesTheLongestAndGivesUpOnTheWholeWord) {
  const auto vocabulary = vocabulary_of({"[UNK]", "un", "##aff", "##able", "##a", "u", "##ab"});
  const WordPiece model(vocabulary, std::vector<bool>(7, true), {.max_characters = 9});
  EXPECT_THAT(encode(model, "unaffable"), ElementsAre(1, 2, 3));
  EXPECT_THAT(encode(model, "una"), ElementsAre(1, 4));
  EXPECT_THAT(encode(model, "unabl"), ElementsAre(0)) << "'l' cannot be spelled";
  EXPECT_THAT(encode(model, "unaffablea"), ElementsAre(0)) << "too long";
  EXPECT_THAT(encode(model, ""), ElementsAre());
  const WordPiece part(vocabulary, {true, false, true, true, true, true, true}, {});
  EXPECT_THAT(encode(part, "un"), ElementsAre(0)) << "no text becomes token 1";
}

TEST(Unigram, TakesTheBestSum) {
  const auto vocabulary = vocabulary_of({"<unk>", "a", "b", "ab", "abc", "c"});
  const Unigram model(vocabulary, {0, -1, -1, -1.5, -5, -2}, {.unknown = 0});
  EXPECT_THAT(encode(model, "abc"), ElementsAre(3, 5));
  EXPECT_THAT(encode(model, "axyb"), ElementsAre(1, 0, 2)) << "neighbours are one unknown token";
  EXPECT_THAT(encode(model, "xaby"), ElementsAre(0, 3, 0));
  EXPECT_THAT(encode(Unigram(vocabulary, {0, -1, -1, -1.5, -5, -2}, {}), "axb"), ElementsAre(1, 2))
      << "without an unknown token it vanishes";
}

TEST(Unigram, BytesStandForTheUnknown) {
  std::vector<VocabularyEntry> entries = {{"<unk>", 0, TokenKind::kUnknown}, {"a", -1}};
  for (int byte = 0; byte < 256; ++byte) {
    entries.push_back({token_of_byte(static_cast<unsigned char>(byte)), 0, TokenKind::kByte});
  }
  const Vocabulary vocabulary(entries, "test");
  std::vector<double> scores(entries.size(), std::numeric_limits<double>::quiet_NaN());
  scores[1] = -1;
  const Unigram model(vocabulary, scores, {.unknown = 0, .byte_fallback = true});
  EXPECT_THAT(encode(model, "a\u00e9"), ElementsAre(1, 2 + 0xC3, 2 + 0xA9));
}

/// The best sum over all ways to cut the word, by trying them all.
double best_sum(const Vocabulary& vocabulary, const std::vector<double>& scores, double unknown,
                std::string_view word) {
  if (word.empty()) return 0;
  double best = -std::numeric_limits<double>::infinity();
  for (size_t size = 1; size <= word.size(); ++size) {
    const auto token = vocabulary.find(word.substr(0, size));
    if (!token && size > 1) continue;
    const double score = token ? scores[static_cast<size_t>(*token)] : unknown;
    best = std::max(best, score + best_sum(vocabulary, scores, unknown, word.substr(size)));
  }
  return best;
}

TEST(Unigram, EqualsItsDefinition) {
  const auto vocabulary = vocabulary_of({"a", "b", "aa", "ab", "ba", "aba", "bb", "abab", "c"});
  EXPECT_TRUE(rc::check([&](const std::vector<int>& letters) {
    const auto scores = *rc::gen::container<std::vector<double>>(
        9, rc::gen::map(rc::gen::inRange(1, 2000), [](int n) { return -n / 256.0; }));
    std::string word;
    for (const int letter : letters) {
      if (word.size() < 12) word += static_cast<char>('a' + std::abs(letter % 4));
    }
    const Unigram model(vocabulary, scores, {});
    const double unknown = *std::ranges::min_element(scores) - 10;
    double sum = 0;
    size_t known = 0;
    for (const Token token : encode(model, word)) {
      sum += scores[static_cast<size_t>(token)];
      known += vocabulary[token].text.size();
    }
    sum += unknown * static_cast<double>(word.size() - known);
    RC_ASSERT(std::abs(sum - best_sum(vocabulary, scores, unknown, word)) < 1e-9);
  }));
}

std::string varint(uint64_t value) {
  std::string bytes;
  for (; value >= 128; value /= 128) bytes += static_cast<char>(value % 128 | 128);
  return bytes + static_cast<char>(value);
}

std::string field(uint64_t number, uint64_t value) {
  return varint(number << 3) + varint(value);
}

std::string field(uint64_t number, const std::string& bytes) {
  return varint(number << 3 | 2) + varint(bytes.size()) + bytes;
}

std::string piece(const std::string& text, float score, uint64_t kind) {
  std::string bits(4, '\0');
  std::memcpy(bits.data(), &score, 4);
  return field(1, field(1, text) + varint(2 << 3 | 5) + bits + field(3, kind));
}

std::string small_model(uint64_t type) {
  return piece("<unk>", 0, 2) + piece("<s>", 0, 3) + piece("</s>", 0, 3) + piece("\u2581", -3, 1) +
         piece("a", -4, 1) + piece("\u2581a", -1, 1) + piece("<u>", 0, 4) +
         field(2, field(3, type));
}

TEST(SentencePiece, ReadsBothModels) {
  const auto open = [](const std::string& bytes, const Json& config = Json()) {
    return Tokenizer::from_sentence_piece(bytes, config, "file");
  };
  const auto unigram = open(small_model(1));
  EXPECT_THAT(unigram.encode("  a  aa<u>a "), ElementsAre(5, 5, 4, 6, 4));
  EXPECT_THAT(unigram.encode_with_bos("a"), ElementsAre(5, 2));
  EXPECT_THAT(unigram.encode_with_bos("", Tokenizer::Special::kParse), ElementsAre(2));
  EXPECT_EQ(unigram.decode(unigram.encode("a aa")), "a aa");
  const auto bpe = open(small_model(2));
  EXPECT_THAT(bpe.encode_with_bos("a ab"), ElementsAre(1, 5, 5, 0));
  EXPECT_THAT(open(small_model(2), Json{{"add_bos_token", false}}).encode_with_bos("a"),
              ElementsAre(5));
  const auto plain = open(small_model(2) + field(3, field(3, uint64_t{0}) + field(4, uint64_t{0})));
  EXPECT_THAT(plain.encode("a a "), ElementsAre(4, 5, 3));
}

TEST(SentencePiece, RefusesWhatItCannotRead) {
  const auto refusal = [](const std::string& bytes) -> std::string {
    try {
      Tokenizer::from_sentence_piece(bytes, Json(), "file");
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_THAT(refusal(""), HasSubstr("file: holds no pieces"));
  EXPECT_THAT(refusal(small_model(3)), HasSubstr("model_type 3 is not supported"));
  EXPECT_THAT(refusal(small_model(1).substr(0, 20)), HasSubstr("a message ends"));
  EXPECT_THAT(refusal(std::string(12, '\xFF')), HasSubstr("more than 10 bytes"));
  EXPECT_THAT(refusal("\x0B"), HasSubstr("wire type 3"));
  EXPECT_THAT(refusal(piece("a", std::nanf(""), 1)), HasSubstr("no finite score"));
  EXPECT_THAT(refusal(small_model(1) + field(2, field(24, uint64_t{1}))), HasSubstr("suffixes"));
}

}  // namespace
}  // namespace fewbits
