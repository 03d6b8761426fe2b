#include "model/tokenizers/byte_level.h"

#include <array>
#include <cstdint>

#include "model/tokenizers/utf8.h"

namespace fewbits {
namespace {

constexpr int32_t kAlphabetEnd = 256 + 68;

constexpr bool spells_itself(int32_t byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

constexpr std::array<int32_t, 256> kCodeOfByte = [] {
  std::array<int32_t, 256> codes{};
  int32_t next = 256;
  for (int32_t byte = 0; byte < 256; ++byte) {
    codes[static_cast<size_t>(byte)] = spells_itself(byte) ? byte : next++;
  }
  return codes;
}();

constexpr std::array<int16_t, kAlphabetEnd> kByteOfCode = [] {
  std::array<int16_t, kAlphabetEnd> bytes{};
  for (auto& byte : bytes) byte = -1;
  for (size_t byte = 0; byte < 256; ++byte) {
    bytes[static_cast<size_t>(kCodeOfByte[byte])] = static_cast<int16_t>(byte);
  }
  return bytes;
}();

struct Spelling {
  std::array<char, 2> text{};
  uint8_t size = 0;
};

constexpr std::array<Spelling, 256> kSpellings = [] {
  std::array<Spelling, 256> spellings{};
  for (size_t byte = 0; byte < 256; ++byte) {
    const int32_t code = kCodeOfByte[byte];
    if (code < 0x80) {
      spellings[byte] = {{static_cast<char>(code), 0}, 1};
    } else {
      spellings[byte] = {
          {static_cast<char>(0xC0 | (code >> 6)), static_cast<char>(0x80 | (code & 0x3F))}, 2};
    }
  }
  return spellings;
}();

}  // namespace

std::string_view spelling_of_byte(unsigned char byte) {
  return {kSpellings[byte].text.data(), kSpellings[byte].size};
}

std::optional<std::string> bytes_from_spelling(std::string_view text) {
  std::string bytes;
  for (int64_t at = 0; at < static_cast<int64_t>(text.size());) {
    const Utf8Char character = decode_utf8(text, at);
    if (character.code < 0 || character.code >= kAlphabetEnd) return std::nullopt;
    const int16_t byte = kByteOfCode[static_cast<size_t>(character.code)];
    if (byte < 0) return std::nullopt;
    bytes += static_cast<char>(byte);
    at += character.bytes;
  }
  return bytes;
}

}  // namespace fewbits
