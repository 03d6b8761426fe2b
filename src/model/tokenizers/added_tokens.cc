#include "model/tokenizers/added_tokens.h"

#include <fmt/format.h>
#include <utf8proc.h>

#include <algorithm>

#include "base/error.h"

namespace fewbits {
namespace {

constexpr size_t kMaxTokenBytes = 1024;

uint64_t child_key(int32_t node, char byte) {
  return static_cast<uint64_t>(node) * 256 + static_cast<unsigned char>(byte);
}

/// What \w matches: letters, marks, digits, connectors.
bool is_word(int32_t code) {
  if (code < 0) return false;
  const auto category = utf8proc_category(code);
  return (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_ND) ||
         category == UTF8PROC_CATEGORY_PC;
}

/// The character that ends in front of byte `at`.
Utf8Char character_before(std::string_view text, int64_t at) {
  for (int64_t begin = at - 1; begin >= std::max<int64_t>(0, at - 4); --begin) {
    const Utf8Char character = decode_utf8(text, begin);
    if (character.code >= 0 && begin + character.bytes == at) return character;
  }
  return {};
}

}  // namespace

void AddedTokens::add(AddedToken token, std::string_view where) {
  if (token.text.empty()) return;
  if (token.text.size() > kMaxTokenBytes) {
    throw Error(fmt::format("{}: added token {} has {} bytes; at most {} are supported", where,
                            token.token, token.text.size(), kMaxTokenBytes));
  }
  begins_[static_cast<unsigned char>(token.text[0])] = true;
  int32_t node = 0;
  for (const char byte : token.text) {
    const auto [child, added] =
        children_.emplace(child_key(node, byte), static_cast<int32_t>(ends_.size()));
    if (added) ends_.push_back(-1);
    node = child->second;
  }
  ends_[static_cast<size_t>(node)] = static_cast<int32_t>(tokens_.size());
  tokens_.push_back(std::move(token));
}

std::vector<TextSegment> AddedTokens::split(std::string_view text, bool find_special) const {
  std::vector<TextSegment> segments;
  const auto size = static_cast<int64_t>(text.size());
  int64_t done = 0;
  for (int64_t from = 0; from < size && !empty();) {
    auto match = find(text, from);
    if (!match) break;
    from = match->range.end;
    if (match->token->special && !find_special) continue;
    if (!widen(text, done, *match)) continue;
    if (done < match->range.begin) segments.push_back({{done, match->range.begin}, -1});
    segments.push_back({match->range, match->token->token});
    done = match->range.end;
    from = std::max(from, done);
  }
  if (done < size) segments.push_back({{done, size}, -1});
  return segments;
}

std::optional<AddedTokens::Match> AddedTokens::find(std::string_view text, int64_t from) const {
  const auto size = static_cast<int64_t>(text.size());
  for (int64_t begin = from; begin < size; ++begin) {
    if (!begins_[static_cast<unsigned char>(text[static_cast<size_t>(begin)])]) continue;
    std::optional<Match> longest;
    int32_t node = 0;
    for (int64_t at = begin; at < size; ++at) {
      const auto child = children_.find(child_key(node, text[static_cast<size_t>(at)]));
      if (child == children_.end()) break;
      node = child->second;
      const int32_t token = ends_[static_cast<size_t>(node)];
      if (token >= 0) longest = Match{{begin, at + 1}, &tokens_[static_cast<size_t>(token)]};
    }
    if (longest) return longest;
  }
  return std::nullopt;
}

/// Applies the token's conditions: false where it does not count, else with its white space.
bool AddedTokens::widen(std::string_view text, int64_t done, Match& match) const {
  const auto size = static_cast<int64_t>(text.size());
  ByteRange& range = match.range;
  const auto before = [&] {
    return range.begin > 0 ? character_before(text, range.begin) : Utf8Char{};
  };
  const auto behind = [&] { return range.end < size ? decode_utf8(text, range.end) : Utf8Char{}; };
  const AddedToken& token = *match.token;
  if (token.single_word && (is_word(before().code) || is_word(behind().code))) return false;
  while (token.left_strip && range.begin > done && is_space(before().code)) {
    range.begin -= before().bytes;
  }
  while (token.right_strip && range.end < size && is_space(behind().code)) {
    range.end += behind().bytes;
  }
  return true;
}

}  // namespace fewbits
