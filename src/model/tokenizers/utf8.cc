#include "model/tokenizers/utf8.h"

#include <utf8proc.h>

namespace fewbits {

Utf8Char decode_utf8(std::string_view text, int64_t at) {
  const auto first = static_cast<uint8_t>(text[static_cast<size_t>(at)]);
  if (first < 0x80) return {first, 1};
  const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(text.data()) + at;
  utf8proc_int32_t code;
  const auto length =
      utf8proc_iterate(bytes, static_cast<utf8proc_ssize_t>(text.size()) - at, &code);
  if (length <= 0) return {};
  return {code, static_cast<int32_t>(length)};
}

void append_utf8(std::string& text, int32_t code) {
  utf8proc_uint8_t bytes[4];
  const auto length = utf8proc_encode_char(code, bytes);
  text.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(length));
}

bool is_valid_utf8(std::string_view text) {
  const auto size = static_cast<int64_t>(text.size());
  for (int64_t at = 0; at < size;) {
    const Utf8Char character = decode_utf8(text, at);
    if (character.code < 0) return false;
    at += character.bytes;
  }
  return true;
}

std::string replace_invalid_utf8(std::string_view text) {
  std::string valid;
  valid.reserve(text.size());
  for (int64_t at = 0; at < static_cast<int64_t>(text.size());) {
    const Utf8Char character = decode_utf8(text, at);
    if (character.code < 0) {
      valid += "\xEF\xBF\xBD";
    } else {
      valid += slice(text, {at, at + character.bytes});
    }
    at += character.bytes;
  }
  return valid;
}

bool is_space(int32_t code) {
  if (code < 0) return false;
  if ((code >= 9 && code <= 13) || code == 0x85) return true;
  const auto category = utf8proc_category(code);
  return category == UTF8PROC_CATEGORY_ZS || category == UTF8PROC_CATEGORY_ZL ||
         category == UTF8PROC_CATEGORY_ZP;
}

}  // namespace fewbits
