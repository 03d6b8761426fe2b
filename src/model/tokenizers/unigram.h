#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "model/tokenizers/prefix_trie.h"
#include "model/tokenizers/token_model.h"
#include "model/tokenizers/vocabulary.h"

namespace fewbits {

/// SentencePiece's Unigram model (Kudo 2018): every token has a score, its log probability; a word
/// becomes the tokens whose scores have the highest sum, found by Viterbi's algorithm. A character
/// that is no token counts as the unknown token, ten below the lowest score of all.
///
/// A word of n bytes takes O(n * longest token) steps and memory for the longest stretch that no
/// token boundary surely cuts.
class Unigram final : public TokenModel {
 public:
  struct Options {
    std::optional<Token> unknown;   ///< without it, what has no token is dropped
    bool byte_fallback = false;     ///< unknown text becomes its bytes' <0x0A> tokens
    bool single_precision = false;  ///< sums in float, as SentencePiece has them
  };
  /// `scores`: one for each token of `vocabulary`, which must outlive the model; NaN: no text ever
  /// becomes this token.
  Unigram(const Vocabulary& vocabulary, std::vector<double> scores, const Options& options);

  void encode(const Words& words, std::vector<Token>& tokens) const override;

  const Options& options() const { return options_; }
  const std::vector<double>& scores() const { return scores_; }

 private:
  struct Scratch;
  void encode_word(std::string_view word, Scratch& scratch, std::vector<Token>& tokens) const;
  void add_tokens_at(std::string_view word, Scratch& scratch, size_t at) const;
  void flush(std::string_view word, Scratch& scratch, size_t end, std::vector<Token>& tokens) const;
  void emit_unknown(std::string_view text, std::vector<Token>& tokens) const;
  double sum(double path, double score) const;

  const Vocabulary& vocabulary_;
  std::vector<double> scores_;
  Options options_;
  PrefixTrie trie_;
  double unknown_score_ = 0;
  std::vector<Token> byte_tokens_;  ///< 256 of them, or none
};

}  // namespace fewbits
