#include "model/tokenizers/charsmap.h"

#include <fmt/format.h>
#include <utf8proc.h>

#include <algorithm>

#include "base/error.h"
#include "model/tokenizers/utf8.h"

namespace fewbits {
namespace {

constexpr size_t kHeaderBytes = 4;
constexpr size_t kUnitBytes = 4;
constexpr size_t kMaxShortGrapheme = 5;

uint32_t read_u32(const std::string& bytes, size_t at) {
  uint32_t value = 0;
  for (size_t i = 0; i < 4; ++i) {
    value |= static_cast<uint32_t>(static_cast<uint8_t>(bytes[at + i])) << (8 * i);
  }
  return value;
}

bool is_leaf(uint32_t unit) {
  return (unit & 0x80000000U) != 0;
}
bool has_leaf(uint32_t unit) {
  return (unit & 0x100U) != 0;
}
uint32_t label_of(uint32_t unit) {
  return unit & 0x800000FFU;  // a leaf has no label: its bit makes it unlike any byte
}
size_t offset_of(uint32_t unit) {
  const size_t offset = unit >> 10;
  return (unit & 0x200U) != 0 ? offset << 8 : offset;
}

}  // namespace

Charsmap Charsmap::from_bytes(std::string bytes, std::string_view where) {
  Charsmap map;
  if (bytes.empty()) return map;
  const size_t trie = bytes.size() < kHeaderBytes ? 0 : read_u32(bytes, 0);
  if (trie == 0 || trie % kUnitBytes != 0 || trie > bytes.size() - kHeaderBytes) {
    throw Error(fmt::format("{}: precompiled charsmap: {} bytes cannot hold a trie of {}", where,
                            bytes.size(), trie));
  }
  map.units_ = trie / kUnitBytes;
  map.bytes_ = std::move(bytes);
  return map;
}

uint32_t Charsmap::unit(size_t index) const {
  // Outside the array: a leaf, which matches no byte.
  return index < units_ ? read_u32(bytes_, kHeaderBytes + index * kUnitBytes) : 0x80000000U;
}

Charsmap::Match Charsmap::find(std::string_view text, bool longest) const {
  Match match;
  size_t node = offset_of(unit(0));
  for (size_t at = 0; at < text.size(); ++at) {
    const auto byte = static_cast<uint8_t>(text[at]);
    if (byte == 0) break;
    node ^= byte;
    const uint32_t here = unit(node);
    if (label_of(here) != byte) break;
    node ^= offset_of(here);
    if (!has_leaf(here)) continue;
    const uint32_t leaf = unit(node);
    const size_t offset = kHeaderBytes + units_ * kUnitBytes + (leaf & 0x7FFFFFFFU);
    if (!is_leaf(leaf) || offset > bytes_.size()) break;
    const std::string_view rest = std::string_view(bytes_).substr(offset);
    match = {at + 1, rest.substr(0, rest.find('\0'))};
    if (!longest) break;
  }
  return match;
}

void Charsmap::apply_to_grapheme(std::string_view grapheme, std::string& out) const {
  if (grapheme.size() <= kMaxShortGrapheme) {
    if (const Match match = find(grapheme, /*longest=*/false); match.bytes > 0) {
      out += match.by;
      return;
    }
  }
  for (size_t at = 0; at < grapheme.size();) {
    const Utf8Char character = decode_utf8(grapheme, static_cast<int64_t>(at));
    const auto bytes = grapheme.substr(at, static_cast<size_t>(character.bytes));
    const Match match = find(bytes, /*longest=*/false);
    out += match.bytes > 0 ? match.by : bytes;
    at += bytes.size();
  }
}

std::string Charsmap::apply(std::string_view text, Way way) const {
  if (units_ == 0) return std::string(text);
  std::string out;
  out.reserve(text.size());
  size_t begin = 0;  // of the grapheme
  int32_t previous = -1;
  utf8proc_int32_t state = 0;
  for (size_t at = 0; at < text.size();) {
    const Utf8Char character = decode_utf8(text, static_cast<int64_t>(at));
    const auto bytes = static_cast<size_t>(character.bytes);
    if (way == Way::kLongest) {
      const Match match = find(text.substr(at), /*longest=*/true);
      out += match.bytes > 0 ? match.by : text.substr(at, bytes);
      at += std::max(match.bytes, match.bytes > 0 ? size_t{1} : bytes);
      continue;
    }
    if (at > begin && utf8proc_grapheme_break_stateful(previous, character.code, &state)) {
      apply_to_grapheme(text.substr(begin, at - begin), out);
      begin = at;
    }
    previous = character.code;
    at += bytes;
  }
  if (way == Way::kGraphemes) apply_to_grapheme(text.substr(begin), out);
  return out;
}

}  // namespace fewbits
