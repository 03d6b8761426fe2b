#include "model/tokenizers/utf8.h"

#include <gtest/gtest.h>

#include "model/tokenizers/byte_level.h"

namespace fewbits {
namespace {

TEST(Utf8, DecodesCharactersOfEveryLength) {
  const std::string text = "a\u00e9\u20ac\U0001F600";
  EXPECT_EQ(decode_utf8(text, 0).code, 'a');
  EXPECT_EQ(decode_utf8(text, 1).code, 0xE9);
  EXPECT_EQ(decode_utf8(text, 3).code, 0x20AC);
  const Utf8Char last = decode_utf8(text, 6);
  EXPECT_EQ(last.code, 0x1F600);
  EXPECT_EQ(last.bytes, 4);
}

TEST(Utf8, EachInvalidByteIsACharacterOfItsOwn) {
  // A stray continuation, an overlong slash, a surrogate, a code above the last, a cut character.
  for (const char* bytes : {"\x80", "\xC0\xAF", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xE2\x82"}) {
    EXPECT_EQ(decode_utf8(bytes, 0).code, -1);
    EXPECT_EQ(decode_utf8(bytes, 0).bytes, 1);
    EXPECT_FALSE(is_valid_utf8(bytes));
  }
  EXPECT_EQ(replace_invalid_utf8("a\xE2\x82z\u20ac"), "a\uFFFD\uFFFDz\u20ac");
}

TEST(Utf8, AppendIsTheInverseOfDecode) {
  for (int32_t code = 0; code < 0x110000; code += 97) {
    if (code >= 0xD800 && code < 0xE000) continue;
    std::string text;
    append_utf8(text, code);
    EXPECT_EQ(decode_utf8(text, 0).code, code);
    EXPECT_EQ(decode_utf8(text, 0).bytes, static_cast<int32_t>(text.size()));
  }
}

TEST(ByteLevel, SpellsEveryByteAndReadsItBack) {
  for (int byte = 0; byte < 256; ++byte) {
    const auto value = static_cast<unsigned char>(byte);
    const auto bytes = bytes_from_spelling(spelling_of_byte(value));
    ASSERT_TRUE(bytes);
    EXPECT_EQ(*bytes, std::string(1, static_cast<char>(value)));
  }
  EXPECT_EQ(spelling_of_byte(' '), "\u0120");
  EXPECT_EQ(spelling_of_byte('\n'), "\u010a");
  EXPECT_EQ(spelling_of_byte(0xAD), "\u0143");
  EXPECT_FALSE(bytes_from_spelling("a b"));
  EXPECT_FALSE(bytes_from_spelling("\u2581"));
  EXPECT_FALSE(bytes_from_spelling("\xFF"));
}

}  // namespace
}  // namespace fewbits
