#include "model/tokenizers/word_piece.h"

#include <algorithm>

#include "base/error.h"

namespace fewbits {
namespace {

/// The tokens that have the mark, without it, but for those that have the other.
PrefixTrie tokens_with(const Vocabulary& vocabulary, const std::vector<bool>& is_piece,
                       std::string_view mark, std::string_view other) {
  std::vector<PrefixTrie::Entry> entries;
  for (Token token = 0; token < vocabulary.size(); ++token) {
    const std::string_view text = vocabulary[token].text;
    if (!is_piece[static_cast<size_t>(token)] || !text.starts_with(mark)) continue;
    if (!other.empty() && text.starts_with(other)) continue;
    entries.emplace_back(text.substr(mark.size()), token);
  }
  return PrefixTrie(std::move(entries));
}

bool is_longer(std::string_view text, int64_t characters) {
  if (static_cast<int64_t>(text.size()) <= characters) return false;
  const auto begins_one = [](char byte) { return (static_cast<uint8_t>(byte) & 0xC0) != 0x80; };
  return std::ranges::count_if(text, begins_one) > characters;
}

struct Piece {
  Token token = -1;
  size_t bytes = 0;
};

Piece longest_prefix(const PrefixTrie& trie, std::string_view text) {
  Piece longest;
  int32_t node = PrefixTrie::kRoot;
  for (size_t at = 0; at < text.size(); ++at) {
    node = trie.child(node, text[at]);
    if (node == PrefixTrie::kNone) break;
    if (const Token token = trie.token(node); token >= 0) longest = {token, at + 1};
  }
  return longest;
}

}  // namespace

WordPiece::WordPiece(const Vocabulary& vocabulary, const std::vector<bool>& is_piece,
                     const Options& options)
    : options_(options),
      begins_(tokens_with(vocabulary, is_piece, options.begin_mark, {})),
      continues_(tokens_with(vocabulary, is_piece, options.continue_mark, options.begin_mark)) {
  check(std::ssize(is_piece) == vocabulary.size());
}

void WordPiece::encode(const Words& words, std::vector<Token>& tokens) const {
  for (const ByteRange range : words.ranges) encode_word(slice(words.text, range), tokens);
}

void WordPiece::encode_word(std::string_view word, std::vector<Token>& tokens) const {
  if (is_longer(word, options_.max_characters)) return tokens.push_back(options_.unknown);
  const size_t before = tokens.size();
  const PrefixTrie* trie = &begins_;
  while (!word.empty()) {
    const Piece piece = longest_prefix(*trie, word);
    if (piece.token < 0) {
      tokens.resize(before);
      return tokens.push_back(options_.unknown);
    }
    tokens.push_back(piece.token);
    word.remove_prefix(piece.bytes);
    trie = &continues_;
  }
}

}  // namespace fewbits
