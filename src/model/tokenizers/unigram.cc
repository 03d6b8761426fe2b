#include "model/tokenizers/unigram.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "model/tokenizers/word_cache.h"

namespace fewbits {
namespace {

/// How far below the lowest score an unknown character lies: SentencePiece's kUnkPenalty.
constexpr double kUnknownPenalty = 10;

/// Below this many words a cache costs more than it saves.
constexpr size_t kMinWordsForCache = 32;
constexpr size_t kMaxCachedWordBytes = 64;

}  // namespace

/// What one thread needs while it encodes.
struct Unigram::Scratch {
  /// The best way to reach a place in the word.
  struct Place {
    double score = 0;
    uint32_t bytes = 0;  ///< of the token that ends here; 0: no way found yet
    Token token = -1;    ///< -1: unknown
  };
  /// One token of the best way, and where it lies.
  struct Step {
    size_t begin;
    size_t end;
    Token token;
  };
  std::vector<Place> places;  ///< of each byte from `base` on
  std::vector<Step> steps;
  std::optional<WordCache> cache;
  size_t base = 0;   ///< what is before it is emitted
  size_t reach = 0;  ///< where the longest token so far ends
  double base_score = 0;
  size_t unknown_begin = 0;  ///< where pending unknown text begins; == unknown_end: there is none
  size_t unknown_end = 0;

  void start() {
    places.assign(1, {});
    base = reach = unknown_begin = unknown_end = 0;
    base_score = 0;
  }
  Place& place(size_t at) {
    if (places.size() <= at - base) places.resize(at - base + 1);
    return places[at - base];
  }
  void offer(size_t begin, size_t end, double score, Token token) {
    Place& there = place(end);
    reach = std::max(reach, end);
    if (there.bytes != 0 && !(score > there.score)) return;
    there = {score, static_cast<uint32_t>(end - begin), token};
  }
};

Unigram::Unigram(const Vocabulary& vocabulary, std::vector<double> scores, const Options& options)
    : vocabulary_(vocabulary), scores_(std::move(scores)), options_(options) {
  check(std::ssize(scores_) == vocabulary.size());
  std::vector<PrefixTrie::Entry> entries;
  double lowest = std::numeric_limits<double>::infinity();
  for (Token token = 0; token < vocabulary.size(); ++token) {
    const double score = scores_[static_cast<size_t>(token)];
    if (std::isnan(score)) continue;
    entries.emplace_back(vocabulary[token].text, token);
    lowest = std::min(lowest, score);
  }
  trie_ = PrefixTrie(std::move(entries));
  unknown_score_ = sum(lowest, -kUnknownPenalty);
  if (!options.byte_fallback) return;
  for (int byte = 0; byte < 256; ++byte) {
    const auto token = vocabulary.find(token_of_byte(static_cast<unsigned char>(byte)));
    byte_tokens_.push_back(token.value_or(-1));
  }
}

double Unigram::sum(double path, double score) const {
  if (!options_.single_precision) return path + score;
  return static_cast<double>(static_cast<float>(path) + static_cast<float>(score));
}

void Unigram::encode(const Words& words, std::vector<Token>& tokens) const {
  Scratch scratch;
  if (words.ranges.size() >= kMinWordsForCache) {
    scratch.cache.emplace(static_cast<int64_t>(words.text.size()) / 4);
  }
  for (const ByteRange range : words.ranges) {
    const std::string_view word = slice(words.text, range);
    const bool cached = scratch.cache && word.size() <= kMaxCachedWordBytes;
    if (!cached) {
      encode_word(word, scratch, tokens);
    } else if (const auto known = scratch.cache->find(word)) {
      tokens.insert(tokens.end(), known->begin(), known->end());
    } else {
      const size_t before = tokens.size();
      encode_word(word, scratch, tokens);
      scratch.cache->insert(word, std::span(tokens).subspan(before));
    }
  }
}

/// Where no token reaches beyond a place, the best way leads through it: what is before it is
/// settled, and the memory for it is free again. The score goes on, so that sums are rounded as
/// those of the whole word.
void Unigram::encode_word(std::string_view word, Scratch& scratch,
                          std::vector<Token>& tokens) const {
  scratch.start();
  for (size_t at = 0; at < word.size();) {
    if (at == scratch.reach && at > scratch.base) flush(word, scratch, at, tokens);
    add_tokens_at(word, scratch, at);
    at += static_cast<size_t>(decode_utf8(word, static_cast<int64_t>(at)).bytes);
  }
  flush(word, scratch, word.size(), tokens);
  emit_unknown(word.substr(scratch.unknown_begin, scratch.unknown_end - scratch.unknown_begin),
               tokens);
}

/// Offers every token that begins at this character, and the unknown one where none is the
/// character alone.
void Unigram::add_tokens_at(std::string_view word, Scratch& scratch, size_t at) const {
  const auto character = static_cast<size_t>(decode_utf8(word, static_cast<int64_t>(at)).bytes);
  const double path = at == scratch.base ? scratch.base_score : scratch.place(at).score;
  bool alone = false;
  int32_t node = PrefixTrie::kRoot;
  for (size_t end = at; end < word.size();) {
    node = trie_.child(node, word[end++]);
    if (node == PrefixTrie::kNone) break;
    const Token token = trie_.token(node);
    if (token < 0) continue;
    alone = alone || end == at + character;
    scratch.offer(at, end, sum(path, scores_[static_cast<size_t>(token)]), token);
  }
  if (!alone) scratch.offer(at, at + character, sum(path, unknown_score_), -1);
}

/// Emits the best way from `base` to `end`. Unknown text waits: more of it may follow.
void Unigram::flush(std::string_view word, Scratch& scratch, size_t end,
                    std::vector<Token>& tokens) const {
  scratch.steps.clear();
  for (size_t at = end; at > scratch.base;) {
    const Scratch::Place& place = scratch.place(at);
    scratch.steps.push_back({at - place.bytes, at, place.token});
    at -= place.bytes;
  }
  for (auto step = scratch.steps.rbegin(); step != scratch.steps.rend(); ++step) {
    if (step->token < 0 || step->token == options_.unknown) {
      if (scratch.unknown_begin == scratch.unknown_end) scratch.unknown_begin = step->begin;
      scratch.unknown_end = step->end;
      continue;
    }
    emit_unknown(word.substr(scratch.unknown_begin, scratch.unknown_end - scratch.unknown_begin),
                 tokens);
    scratch.unknown_begin = scratch.unknown_end = step->end;
    tokens.push_back(step->token);
  }
  if (end > scratch.base) scratch.base_score = scratch.place(end).score;
  scratch.base = end;
  scratch.places.assign(1, {});
}

/// All of the text's bytes, or one unknown token for all of it.
void Unigram::emit_unknown(std::string_view text, std::vector<Token>& tokens) const {
  if (text.empty()) return;
  const auto token_of = [&](char byte) { return byte_tokens_[static_cast<unsigned char>(byte)]; };
  const auto whole = vocabulary_.find(text);
  if (whole && !std::isnan(scores_[static_cast<size_t>(*whole)])) return tokens.push_back(*whole);
  if (!byte_tokens_.empty() &&
      std::ranges::none_of(text, [&](char byte) { return token_of(byte) < 0; })) {
    for (const char byte : text) tokens.push_back(token_of(byte));
  } else if (options_.unknown) {
    tokens.push_back(*options_.unknown);
  }
}

}  // namespace fewbits
