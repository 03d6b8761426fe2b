#include "model/tokenizers/vocabulary.h"

#include <fmt/format.h>

#include <charconv>

#include "base/error.h"

namespace fewbits {

Vocabulary::Vocabulary(std::vector<VocabularyEntry> entries, std::string_view where)
    : entries_(std::move(entries)) {
  by_text_.reserve(entries_.size());
  for (Token token = 0; token < size(); ++token) {
    const std::string_view text = (*this)[token].text;
    if (text.empty()) continue;
    const auto [other, added] = by_text_.emplace(text, token);
    if (!added) {
      throw Error(fmt::format("{}: tokens {} and {} have the same text '{}'", where, other->second,
                              token, text.substr(0, 100)));
    }
  }
}

std::optional<Token> Vocabulary::find(std::string_view text) const {
  const auto found = by_text_.find(text);
  if (found == by_text_.end()) return std::nullopt;
  return found->second;
}

std::optional<unsigned char> byte_of_token(std::string_view text) {
  if (text.size() != 6 || !text.starts_with("<0x") || text.back() != '>') return std::nullopt;
  unsigned char byte = 0;
  const char* end = text.data() + 5;
  const auto parsed = std::from_chars(text.data() + 3, end, byte, 16);
  if (parsed.ec != std::errc() || parsed.ptr != end) return std::nullopt;
  return byte;
}

std::string token_of_byte(unsigned char byte) {
  return fmt::format("<0x{:02X}>", byte);
}

}  // namespace fewbits
