// Normalizer, pre-tokenizer, added tokens and decoder, each alone.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "base/error.h"
#include "model/tokenizers/added_tokens.h"
#include "model/tokenizers/base64.h"
#include "model/tokenizers/charsmap.h"
#include "model/tokenizers/decoder.h"
#include "model/tokenizers/normalizer.h"
#include "model/tokenizers/pre_tokenizer.h"

namespace fewbits {
namespace {

using ::testing::ElementsAre;

std::string normalize(const char* json, std::string text) {
  return Normalizer::from_json(parse_json(json, "test"), "test").apply(std::move(text));
}

std::vector<std::string> split(const char* json, std::string text, bool at_start = true) {
  const auto words =
      PreTokenizer::from_json(parse_json(json, "test"), "test").apply(std::move(text), at_start);
  std::vector<std::string> texts;
  for (const ByteRange range : words.ranges) texts.emplace_back(slice(words.text, range));
  return texts;
}

TEST(Normalizer, EachKind) {
  EXPECT_EQ(normalize("null", "A b"), "A b");
  EXPECT_EQ(normalize(R"({"type":"Prepend","prepend":"_"})", "a"), "_a");
  EXPECT_EQ(normalize(R"({"type":"Prepend","prepend":"_"})", ""), "");
  EXPECT_EQ(normalize(R"({"type":"Replace","pattern":{"String":"a"},"content":"bb"})", "aca"),
            "bbcbb");
  EXPECT_EQ(normalize(R"({"type":"Replace","pattern":{"Regex":" +"},"content":"-"})", "a   b"),
            "a-b");
  EXPECT_EQ(normalize(R"({"type":"NFC"})", "e\u0301"), "\u00e9");
  EXPECT_EQ(normalize(R"({"type":"NFKC"})", "\ufb01"), "fi");
  EXPECT_EQ(normalize(R"({"type":"Lowercase"})", "\u0130\u00c9A"), "i\u0307\u00e9a");
  EXPECT_EQ(normalize(R"({"type":"Strip"})", " \u3000a b\n"), "a b");
  EXPECT_EQ(normalize(R"({"type":"Sequence","normalizers":[{"type":"NFD"},
                         {"type":"StripAccents"}]})",
                      "\u00e9a"),
            "ea");
}

TEST(Normalizer, NamesWhatItDoesNotKnow) {
  try {
    normalize(R"({"type":"Nmt"})", "");
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("normalizer 'Nmt' is not supported"));
  }
}

TEST(Normalizer, Bert) {
  const char* uncased = R"({"type":"BertNormalizer"})";
  EXPECT_EQ(normalize(uncased, "H\u00c9\u00df\u0130 a\tb\x01\u200b\u2028c\n"), "he\u00dfi a b c ");
  EXPECT_EQ(normalize(uncased, "a\u4e2d\u6587b"), "a \u4e2d  \u6587 b");
  EXPECT_EQ(normalize(uncased, "\uac00"), "\u1100\u1161") << "decomposed, no mark to strip";
  EXPECT_EQ(normalize(R"({"type":"BertNormalizer","lowercase":false})", "\u00c9A"), "\u00c9A");
  EXPECT_EQ(normalize(R"({"type":"BertNormalizer","lowercase":false,"strip_accents":true,
                          "handle_chinese_chars":false,"clean_text":false})",
                      "\u00c9\tA\u4e2d"),
            "E\tA\u4e2d");
}

/// A charsmap with the rules "a" -> "x", "ab" -> "y" and "b" -> "".
std::string small_charsmap() {
  std::vector<uint32_t> units(512, 0x80000000U);
  const auto node = [&](uint32_t at, uint32_t label, uint32_t children, bool leaf) {
    units[at] = label | (leaf ? 0x100U : 0U) | ((at ^ children) << 10);
  };
  units[0] = 256U << 10;            // the root's children lie at 256 ^ byte
  node(256 ^ 'a', 'a', 128, true);  // those of "a" at 128 ^ byte, its leaf at 128
  units[128] = 0x80000000U | 0;     // "x"
  node(128 ^ 'b', 'b', 64, true);   // "ab", its leaf at 64
  units[64] = 0x80000000U | 2;      // "y"
  node(256 ^ 'b', 'b', 32, true);   // "b", its leaf at 32
  units[32] = 0x80000000U | 4;      // ""
  std::string bytes(4 + 4 * units.size(), '\0');
  const auto size = static_cast<uint32_t>(4 * units.size());
  std::memcpy(bytes.data(), &size, 4);
  std::memcpy(bytes.data() + 4, units.data(), size);
  return bytes + std::string("x\0y\0\0", 5);
}

TEST(Charsmap, LongestRuleOrGraphemes) {
  const Charsmap map = Charsmap::from_bytes(small_charsmap(), "test");
  EXPECT_EQ(map.apply("abacb", Charsmap::Way::kLongest), "yxc");
  EXPECT_EQ(map.apply("abacb", Charsmap::Way::kGraphemes), "xxc") << "each letter is a grapheme";
  EXPECT_EQ(map.apply("a\u0301c", Charsmap::Way::kGraphemes), "xc") << "the whole grapheme";
  EXPECT_EQ(map.apply("a\u0301c", Charsmap::Way::kLongest), "x\u0301c");
  EXPECT_EQ(map.apply("", Charsmap::Way::kLongest), "");
  EXPECT_EQ(Charsmap().apply("ab", Charsmap::Way::kGraphemes), "ab");
}

TEST(Charsmap, RefusesWhatIsNoTrie) {
  const std::string good = small_charsmap();
  for (const size_t size : {size_t{1}, size_t{4}, size_t{100}, good.size() - 6}) {
    EXPECT_THROW(Charsmap::from_bytes(good.substr(0, size), "test"), Error) << size;
  }
  std::string wild(4 + 4 * 4, '\xFF');  // offsets that lead far outside
  wild.replace(0, 4, std::string("\x10\0\0\0", 4));
  EXPECT_EQ(Charsmap::from_bytes(wild, "test").apply("abc", Charsmap::Way::kLongest), "abc");
}

TEST(Base64, DecodesAndRefuses) {
  EXPECT_EQ(decode_base64("", "test"), "");
  EXPECT_EQ(decode_base64("TWFu", "test"), "Man");
  EXPECT_EQ(decode_base64("TWE=", "test"), "Ma");
  EXPECT_EQ(decode_base64("//79", "test"), "\xFF\xFE\xFD");
  EXPECT_THROW(decode_base64("T*Fu", "test"), Error);
}

TEST(PreTokenizer, SplitBehaviors) {
  const auto digits = [](const std::string& behavior, const char* invert = "false") {
    const std::string json = R"({"type":"Split","pattern":{"Regex":"[0-9]"},"behavior":")" +
                             behavior + R"(","invert":)" + invert + "}";
    return split(json.c_str(), "a12b3");
  };
  EXPECT_THAT(digits("Isolated"), ElementsAre("a", "1", "2", "b", "3"));
  EXPECT_THAT(digits("Removed"), ElementsAre("a", "b"));
  EXPECT_THAT(digits("Removed", "true"), ElementsAre("1", "2", "3"));
  EXPECT_THAT(digits("Contiguous"), ElementsAre("a", "12", "b", "3"));
  EXPECT_THAT(digits("MergedWithPrevious"), ElementsAre("a1", "2", "b3"));
  EXPECT_THAT(digits("MergedWithNext"), ElementsAre("a", "1", "2b", "3"));
  EXPECT_THROW(digits("Sideways"), Error);
}

TEST(PreTokenizer, Bert) {
  EXPECT_THAT(split(R"({"type":"BertPreTokenizer"})", " it's\u3000x$ \u00bfy"),
              ElementsAre("it", "'", "s", "x", "$", "\u00bf", "y"));
}

TEST(PreTokenizer, ByteLevel) {
  EXPECT_THAT(split(R"({"type":"ByteLevel","add_prefix_space":true})", "it's  x"),
              ElementsAre(" it", "'s", " ", " x"));
  EXPECT_THAT(split(R"({"type":"ByteLevel","add_prefix_space":false,"use_regex":false})", "a b"),
              ElementsAre("a b"));
  EXPECT_THROW(split(R"({"type":"Sequence","pretokenizers":[{"type":"ByteLevel"},
                        {"type":"Digits"}]})",
                     "a"),
               Error);
}

TEST(PreTokenizer, Metaspace) {
  const char* first = R"({"type":"Metaspace","replacement":"_","prepend_scheme":"first"})";
  EXPECT_THAT(split(first, "a  b"), ElementsAre("_a", "_", "_b"));
  EXPECT_THAT(split(first, "a b", /*at_start=*/false), ElementsAre("a", "_b"));
  EXPECT_THAT(split(first, " a"), ElementsAre("_a"));
  EXPECT_THAT(split(R"({"type":"Metaspace","replacement":"_","add_prefix_space":false,
                        "split":false})",
                    "a b"),
              ElementsAre("a_b"));
  EXPECT_THAT(split(first, ""), ElementsAre());
}

class AddedTokensTest : public ::testing::Test {
 protected:
  AddedToken& next(const char* text) {
    token_ = {};
    token_.text = text;
    token_.token = id_++;
    return token_;
  }
  void add() { tokens_.add(token_, "test"); }
  std::string split(std::string_view text, bool special = true) {
    std::string result;
    for (const TextSegment& segment : tokens_.split(text, special)) {
      result += segment.token >= 0 ? "<" : "[";
      result += slice(text, segment.range);
      result += segment.token >= 0 ? ">" : "]";
    }
    return result;
  }
  AddedTokens tokens_;
  AddedToken token_;
  Token id_ = 0;
};

TEST_F(AddedTokensTest, TheLongestAtEachPlace) {
  for (const char* text : {"ab", "abcd", "bc"}) next(text), add();
  EXPECT_EQ(split("xabcabcdbc"), "[x]<ab>[c]<abcd><bc>");
  EXPECT_EQ(split(""), "");
  EXPECT_EQ(AddedTokens().split("ab", true).size(), 1u);
}

TEST_F(AddedTokensTest, SpecialOnesCanStayText) {
  next("<s>").special = true;
  add();
  next("--"), add();
  EXPECT_EQ(split("a<s>--"), "[a]<<s>><-->");
  EXPECT_EQ(split("a<s>--", /*special=*/false), "[a<s>]<-->");
}

TEST_F(AddedTokensTest, StripsAndSingleWords) {
  next("A").left_strip = true;
  add();
  next("B").right_strip = true;
  add();
  next("word").single_word = true;
  add();
  EXPECT_EQ(split("x \u3000A B \ny"), "[x]< \u3000A>[ ]<B \n>[y]");
  EXPECT_EQ(split("B A"), "<B ><A>");
  EXPECT_EQ(split("word swords -word\u00e9 word."), "<word>[ swords -word\u00e9 ]<word>[.]");
}

TEST_F(AddedTokensTest, RefusesALongOne) {
  next("x").text = std::string(2000, 'x');
  EXPECT_THROW(add(), Error);
}

std::string decode(const char* json, std::vector<std::string> tokens) {
  const auto decoder = Decoder::from_json(parse_json(json, "test"), "test");
  std::string text;
  for (size_t i = 0; i < tokens.size(); ++i) text += decoder.piece(tokens[i], i == 0);
  return decoder.finish(text);
}

TEST(Decoder, EachKind) {
  EXPECT_EQ(decode(R"({"type":"ByteLevel"})", {"\u0120a", "\u00c3", "\u00a9", "\u2581"}),
            " a\u00e9\u2581");
  const char* llama = R"({"type":"Sequence","decoders":[
      {"type":"Replace","pattern":{"String":"_"},"content":" "},{"type":"ByteFallback"},
      {"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]})";
  EXPECT_EQ(decode(llama, {"_", "_a_", "<0xC3>", "<0xA9>", "<0xZZ>"}), " a \u00e9<0xZZ>");
  EXPECT_EQ(decode(R"({"type":"Metaspace","replacement":"_"})", {"_a", "_b"}), "a b");
  EXPECT_EQ(decode(R"({"type":"Metaspace","replacement":"_","prepend_scheme":"never"})", {"_a"}),
            " a");
  EXPECT_THROW(decode(R"({"type":"CTC"})", {}), Error);
}

}  // namespace
}  // namespace fewbits
