#include "engine/text_stream.h"

#include <algorithm>
#include <utility>

namespace fewbits {
namespace {

constexpr std::string_view kReplacement = "\xef\xbf\xbd";  // U+FFFD

bool is_continuation(char c) {
  return (static_cast<unsigned char>(c) & 0xc0u) == 0x80;
}

struct Character {
  size_t size;  ///< bytes it takes, or bytes that are no character
  bool valid;
  bool cut_short;  ///< the text ends inside it
};

/// The bytes that a sequence with this first byte takes; 0 for bytes that begin none.
size_t sequence_length(unsigned char first) {
  if (first < 0x80) return 1;
  if (first >= 0xc2 && first <= 0xdf) return 2;
  if (first >= 0xe0 && first <= 0xef) return 3;
  if (first >= 0xf0 && first <= 0xf4) return 4;
  return 0;
}

/// Refuses what the second byte alone gives away: overlong forms, surrogates, values above
/// U+10FFFF.
bool second_byte_fits(unsigned char first, unsigned char second) {
  switch (first) {
    case 0xe0:
      return second >= 0xa0;
    case 0xed:
      return second <= 0x9f;
    case 0xf0:
      return second >= 0x90;
    case 0xf4:
      return second <= 0x8f;
    default:
      return true;
  }
}

/// The character at the front of `text`, which is not empty.
Character first_character(std::string_view text) {
  const auto first = static_cast<unsigned char>(text[0]);
  const size_t length = sequence_length(first);
  if (length <= 1) return {1, length == 1, false};
  size_t size = 1;
  while (size < length && size < text.size() && is_continuation(text[size])) ++size;
  if (size > 1 && !second_byte_fits(first, static_cast<unsigned char>(text[1]))) {
    return {1, false, false};
  }
  if (size == length) return {size, true, false};
  return {size, false, size == text.size()};
}

}  // namespace

TextStream::TextStream(std::vector<std::string> stop_strings, TextCallback on_text)
    : stop_strings_(std::move(stop_strings)), on_text_(std::move(on_text)) {
  std::erase(stop_strings_, "");
}

bool TextStream::add(std::string_view bytes) {
  pending_ += bytes;
  if (const size_t stop = find_stop(); stop != std::string::npos) {
    pending_.resize(stop);
    finish();
    return false;
  }
  give_out(pending_.size() - held_for_stop());
  return true;
}

void TextStream::finish() {
  give_out(pending_.size());
  if (pending_.empty()) return;  // else the text ends inside a character
  pending_.clear();
  show(std::string(kReplacement));
}

/// Where the earliest stop string begins.
size_t TextStream::find_stop() const {
  size_t earliest = std::string::npos;
  for (const std::string& stop : stop_strings_) earliest = std::min(earliest, pending_.find(stop));
  return earliest;
}

/// The longest end of pending_ that begins some stop string.
size_t TextStream::held_for_stop() const {
  size_t held = 0;
  for (const std::string& stop : stop_strings_) {
    size_t size = std::min(stop.size() - 1, pending_.size());
    while (size > held && !pending_.ends_with(std::string_view(stop).substr(0, size))) --size;
    held = std::max(held, size);
  }
  return held;
}

/// The whole characters of the first `size` bytes.
void TextStream::give_out(size_t size) {
  std::string shown;
  size_t used = 0;
  while (used < size) {
    const Character character = first_character(std::string_view(pending_).substr(used));
    if (character.cut_short || used + character.size > size) break;
    shown +=
        character.valid ? std::string_view(pending_).substr(used, character.size) : kReplacement;
    used += character.size;
  }
  pending_.erase(0, used);
  show(shown);
}

void TextStream::show(const std::string& shown) {
  if (shown.empty()) return;
  text_ += shown;
  if (on_text_) on_text_(shown);
}

}  // namespace fewbits
