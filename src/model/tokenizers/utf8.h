#pragma once

#include <cstdint>
#include <string>
#include <string_view>

// UTF-8 one character at a time, for text that may be broken anywhere.
namespace fewbits {

/// A half-open run of bytes in some text.
struct ByteRange {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t size() const { return end - begin; }
};

/// One character: its code point and its bytes. A byte that begins no valid character (a stray
/// continuation, an overlong form, a surrogate) is a character of its own with code -1.
struct Utf8Char {
  int32_t code = -1;
  int32_t bytes = 1;
};

/// The character at byte `at`. REQUIRES: at < text.size().
Utf8Char decode_utf8(std::string_view text, int64_t at);

/// Appends the code point as UTF-8. REQUIRES: a Unicode scalar value.
void append_utf8(std::string& text, int32_t code);

bool is_valid_utf8(std::string_view text);

/// Each byte that belongs to no valid character becomes U+FFFD; valid text comes back unchanged.
std::string replace_invalid_utf8(std::string_view text);

/// Unicode's White_Space. False for -1.
bool is_space(int32_t code);

inline std::string_view slice(std::string_view text, ByteRange range) {
  return text.substr(static_cast<size_t>(range.begin), static_cast<size_t>(range.size()));
}

}  // namespace fewbits
