#include "model/tokenizers/bpe.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "model/tokenizers/byte_level.h"
#include "model/tokenizers/utf8.h"
#include "model/tokenizers/word_cache.h"

namespace fewbits {
namespace {

constexpr std::string_view kSpaceMark = "\u2581";

/// Below this many words a cache costs more than it saves.
constexpr size_t kMinWordsForCache = 32;
constexpr size_t kMaxCachedWordBytes = 64;

}  // namespace

/// What one thread needs while it encodes.
struct Bpe::Scratch {
  struct Symbol {
    Token token;  ///< -1: merged into a symbol to its left
    int32_t previous;
    int32_t next;  ///< -1: none
  };
  /// A pair that could merge when it was queued.
  struct Candidate {
    uint32_t rank;
    int32_t left;
    Token merged;
    /// Orders a heap: the lowest rank, then the leftmost, on top.
    bool operator<(const Candidate& other) const {
      return rank != other.rank ? rank > other.rank : left > other.left;
    }
  };
  std::vector<Symbol> symbols;
  std::vector<Candidate> heap;
  std::optional<Token> pending_unknown;
  std::optional<WordCache> cache;

  void add(Token token) {
    const auto at = static_cast<int32_t>(symbols.size());
    if (at > 0) symbols.back().next = at;
    symbols.push_back({token, at - 1, -1});
  }
};

Bpe::Bpe(const Vocabulary& vocabulary, const Options& options)
    : vocabulary_(vocabulary), options_(options) {
  learn_symbols();
  if (options.ignore_merges && options.byte_level) learn_words();
}

void Bpe::learn_symbols() {
  for (size_t i = 0; i < byte_tokens_.size(); ++i) {
    const auto byte = static_cast<unsigned char>(i);
    const auto token = options_.byte_level ? vocabulary_.find(spelling_of_byte(byte))
                                           : vocabulary_.find(token_of_byte(byte));
    byte_tokens_[i] = token.value_or(-1);
  }
  if (options_.byte_level) return;
  for (Token token = 0; token < vocabulary_.size(); ++token) {
    const std::string& text = vocabulary_[token].text;
    if (text.empty() || text.size() > 4) continue;
    const Utf8Char character = decode_utf8(text, 0);
    if (character.code >= 0 && character.bytes == static_cast<int32_t>(text.size())) {
      symbols_[character.code] = token;
    }
  }
}

void Bpe::learn_words() {
  for (Token token = 0; token < vocabulary_.size(); ++token) {
    auto bytes = bytes_from_spelling(vocabulary_[token].text);
    if (bytes && !bytes->empty()) words_.emplace(std::move(*bytes), token);
  }
}

std::unique_ptr<Bpe> Bpe::from_merges(const Vocabulary& vocabulary, const MergeList& merges,
                                      const Options& options, std::string_view where) {
  auto bpe = std::unique_ptr<Bpe>(new Bpe(vocabulary, options));
  bpe->merges_ = MergeTable(static_cast<int64_t>(merges.size()));
  const auto token_of = [&](const std::string& text, size_t i) {
    const auto token = vocabulary.find(text);
    if (!token) {
      throw Error(fmt::format("{}: merge {} ('{}' + '{}'): '{}' is no token", where, i,
                              merges[i].first, merges[i].second, text));
    }
    return *token;
  };
  for (size_t i = 0; i < merges.size(); ++i) {
    const auto& [left, right] = merges[i];
    bpe->merges_.set(token_of(left, i), token_of(right, i),
                     {static_cast<uint32_t>(i), token_of(left + right, i)});
  }
  bpe->find_safe_cut();
  return bpe;
}

std::unique_ptr<Bpe> Bpe::from_scores(const Vocabulary& vocabulary, const Options& options) {
  auto bpe = std::unique_ptr<Bpe>(new Bpe(vocabulary, options));
  std::vector<Token> order(static_cast<size_t>(vocabulary.size()));
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(
      order, [&](Token a, Token b) { return vocabulary[a].score > vocabulary[b].score; });
  uint32_t rank = 0;  // equal scores have equal ranks: the leftmost pair goes first
  for (size_t i = 0; i < order.size(); ++i) {
    if (i > 0 && vocabulary[order[i]].score < vocabulary[order[i - 1]].score) ++rank;
    bpe->add_scored_merges(order[i], rank);
  }
  bpe->find_safe_cut();
  return bpe;
}

Token Bpe::symbol_of_character(std::string_view character) {
  const Utf8Char decoded = decode_utf8(character, 0);
  if (decoded.code < 0) return -1;
  const auto next = static_cast<Token>(vocabulary_.size() + std::ssize(virtual_symbols_));
  const auto [symbol, added] = symbols_.emplace(decoded.code, next);
  if (added) virtual_symbols_.emplace_back(character);
  return symbol->second;
}

/// Every way to put the token together from two symbols.
void Bpe::add_scored_merges(Token token, uint32_t rank) {
  const VocabularyEntry& entry = vocabulary_[token];
  if (entry.kind == TokenKind::kByte || !is_valid_utf8(entry.text)) return;
  const std::string_view text = entry.text;
  const auto part = [&](std::string_view piece) -> Token {
    if (decode_utf8(piece, 0).bytes == static_cast<int32_t>(piece.size())) {
      return symbol_of_character(piece);
    }
    const auto found = vocabulary_.find(piece);
    return found && vocabulary_[*found].kind != TokenKind::kByte ? *found : -1;
  };
  const auto size = static_cast<int64_t>(text.size());
  for (int64_t at = 0; at < size;) {
    at += decode_utf8(text, at).bytes;
    if (at == size) break;
    const Token left = part(slice(text, {0, at}));
    const Token right = part(slice(text, {at, size}));
    if (left >= 0 && right >= 0) merges_.set(left, right, {rank, token});
  }
}

void Bpe::find_safe_cut() {
  if (options_.byte_level || options_.ignore_merges || !vocabulary_.find(kSpaceMark)) return;
  // A character that vanishes lets what stands on both sides of it merge.
  const bool keeps_all = options_.byte_fallback &&
                         std::ranges::none_of(byte_tokens_, [](Token token) { return token < 0; });
  if (!keeps_all && !options_.unknown) return;
  // A merge crosses the cut where its token has a mark behind another character.
  for (const VocabularyEntry& entry : vocabulary_.entries()) {
    std::string_view text = entry.text;
    while (text.starts_with(kSpaceMark)) text.remove_prefix(kSpaceMark.size());
    if (text.find(kSpaceMark) != std::string_view::npos) return;
  }
  safe_cut_ = kSpaceMark;
}

void Bpe::encode(const Words& words, std::vector<Token>& tokens) const {
  Scratch scratch;
  const bool many = words.ranges.size() >= kMinWordsForCache ||
                    (!safe_cut_.empty() && words.text.size() >= 8 * kMinWordsForCache);
  if (many) scratch.cache.emplace(static_cast<int64_t>(words.text.size()) / 4);
  for (const ByteRange range : words.ranges) {
    std::string_view word = slice(words.text, range);
    while (const size_t cut = safe_cut(word)) {
      encode_cached(word.substr(0, cut), scratch, tokens);
      word.remove_prefix(cut);
    }
    encode_cached(word, scratch, tokens);
  }
}

/// Where the next part begins: behind the marks at the front, at the next mark. 0: nowhere.
size_t Bpe::safe_cut(std::string_view word) const {
  if (safe_cut_.empty()) return 0;
  size_t marks = 0;
  while (word.substr(marks).starts_with(safe_cut_)) marks += safe_cut_.size();
  const size_t cut = word.find(safe_cut_, marks);
  return cut == std::string_view::npos ? 0 : cut;
}

void Bpe::encode_cached(std::string_view word, Scratch& scratch, std::vector<Token>& tokens) const {
  if (!scratch.cache || word.size() > kMaxCachedWordBytes)
    return encode_word(word, scratch, tokens);
  if (const auto known = scratch.cache->find(word)) {
    tokens.insert(tokens.end(), known->begin(), known->end());
    return;
  }
  const size_t before = tokens.size();
  encode_word(word, scratch, tokens);
  scratch.cache->insert(word, std::span(tokens).subspan(before));
}

void Bpe::encode_word(std::string_view word, Scratch& scratch, std::vector<Token>& tokens) const {
  if (options_.ignore_merges) {
    if (options_.byte_level) {
      const auto whole = words_.find(std::string(word));
      if (whole != words_.end()) return tokens.push_back(whole->second);
    } else if (const auto whole = vocabulary_.find(word)) {
      return tokens.push_back(*whole);
    }
  }
  scratch.symbols.clear();
  if (options_.byte_level) {
    begin_with_bytes(word, scratch);
  } else {
    begin_with_characters(word, scratch);
  }
  merge_symbols(scratch);
  emit(scratch, tokens);
}

void Bpe::begin_with_bytes(std::string_view word, Scratch& scratch) const {
  for (const char byte : word) {
    const Token token = byte_tokens_[static_cast<unsigned char>(byte)];
    if (token >= 0) {
      if (scratch.pending_unknown) scratch.add(*std::exchange(scratch.pending_unknown, {}));
      scratch.add(token);
    } else {
      add_unknown(scratch);
    }
  }
  if (scratch.pending_unknown) scratch.add(*std::exchange(scratch.pending_unknown, {}));
}

void Bpe::begin_with_characters(std::string_view word, Scratch& scratch) const {
  const auto size = static_cast<int64_t>(word.size());
  for (int64_t at = 0; at < size;) {
    const Utf8Char character = decode_utf8(word, at);
    const std::string_view bytes = slice(word, {at, at + character.bytes});
    at += character.bytes;
    const auto symbol = character.code < 0 ? symbols_.end() : symbols_.find(character.code);
    if (symbol != symbols_.end()) {
      if (scratch.pending_unknown) scratch.add(*std::exchange(scratch.pending_unknown, {}));
      scratch.add(symbol->second);
    } else if (!options_.byte_fallback || !add_byte_tokens(bytes, scratch)) {
      add_unknown(scratch);
    }
  }
  if (scratch.pending_unknown) scratch.add(*std::exchange(scratch.pending_unknown, {}));
}

/// All of a character's bytes or none of them.
bool Bpe::add_byte_tokens(std::string_view character, Scratch& scratch) const {
  const auto token_of = [&](char byte) { return byte_tokens_[static_cast<unsigned char>(byte)]; };
  if (std::ranges::any_of(character, [&](char byte) { return token_of(byte) < 0; })) return false;
  for (const char byte : character) scratch.add(token_of(byte));
  return true;
}

void Bpe::add_unknown(Scratch& scratch) const {
  if (!options_.unknown) return;
  if (scratch.pending_unknown && !options_.fuse_unknown) scratch.add(*scratch.pending_unknown);
  scratch.pending_unknown = options_.unknown;
}

void Bpe::merge_symbols(Scratch& scratch) const {
  auto& symbols = scratch.symbols;
  auto& heap = scratch.heap;
  heap.clear();
  for (int32_t i = 0; i + 1 < std::ssize(symbols); ++i) queue_pair(scratch, i);
  while (!heap.empty()) {
    const Scratch::Candidate best = heap.front();
    std::pop_heap(heap.begin(), heap.end());
    heap.pop_back();
    auto& left = symbols[static_cast<size_t>(best.left)];
    if (left.token < 0 || left.next < 0) continue;
    auto& right = symbols[static_cast<size_t>(left.next)];
    const Merge* merge = merges_.find(left.token, right.token);
    if (merge == nullptr || merge->merged != best.merged) continue;  // a neighbour has changed
    left.token = best.merged;
    right.token = -1;
    left.next = right.next;
    if (left.next >= 0) symbols[static_cast<size_t>(left.next)].previous = best.left;
    if (left.previous >= 0) queue_pair(scratch, left.previous);
    queue_pair(scratch, best.left);
  }
}

void Bpe::queue_pair(Scratch& scratch, int32_t left) const {
  const auto& symbol = scratch.symbols[static_cast<size_t>(left)];
  if (symbol.next < 0) return;
  const auto& next = scratch.symbols[static_cast<size_t>(symbol.next)];
  const Merge* merge = merges_.find(symbol.token, next.token);
  if (merge == nullptr) return;
  scratch.heap.push_back({merge->rank, left, merge->merged});
  std::push_heap(scratch.heap.begin(), scratch.heap.end());
}

void Bpe::emit(const Scratch& scratch, std::vector<Token>& tokens) const {
  if (scratch.symbols.empty()) return;
  for (int32_t i = 0; i >= 0; i = scratch.symbols[static_cast<size_t>(i)].next) {
    const Token token = scratch.symbols[static_cast<size_t>(i)].token;
    if (token < vocabulary_.size()) {
      tokens.push_back(token);
      continue;
    }
    const auto& character = virtual_symbols_[static_cast<size_t>(token - vocabulary_.size())];
    for (const char byte : character) {
      const Token spelled = byte_tokens_[static_cast<unsigned char>(byte)];
      if (spelled >= 0) {
        tokens.push_back(spelled);
      } else if (options_.unknown) {
        tokens.push_back(*options_.unknown);
      }
    }
  }
}

}  // namespace fewbits
