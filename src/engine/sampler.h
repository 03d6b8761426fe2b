#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/tokenizer.h"

namespace fewbits {

/// SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014): the state
/// counts up by the golden ratio and each number is a hash of it. Integers only, so a seed gives
/// the same numbers everywhere.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t next();
  /// Uniform in [0, 1), a multiple of 2^-53.
  double uniform();

 private:
  uint64_t state_;
};

/// Applied in the order in which they stand here.
struct SamplerOptions {
  double repetition_penalty =
      1;  ///< > 1: tokens of the window get less likely (CTRL, arXiv 1909.05858)
  int64_t repetition_window = 64;  ///< last tokens that count as repeated; -1: all
  int64_t top_k = 0;               ///< keep the k likeliest; 0: all
  double top_p = 1;        ///< keep the fewest likeliest that together reach this probability
  double min_p = 0;        ///< drop what is less than min_p times as likely as the likeliest
  double temperature = 0;  ///< 0: always the likeliest, the lowest id where several are
  uint64_t seed = 0;
};

/// Throws Error that names the option outside its range.
void check_options(const SamplerOptions& options);

/// Picks the next token. The same options and logits give the same tokens.
class Sampler {
 public:
  explicit Sampler(const SamplerOptions& options);

  /// `history`: prompt and generated tokens so far. Throws Error where the logits are not finite.
  Token sample(std::span<const float> logits, std::span<const Token> history);

 private:
  struct Candidate {
    float logit;
    Token token;
    float probability = 0;  ///< among those that can be drawn
  };
  void penalize(std::span<const Token> history);
  void collect_candidates();
  double sum_of_exponentials(double temperature);
  void keep_by_probability();
  void weigh();
  Token draw();
  const Candidate& ranked(size_t rank);

  SamplerOptions options_;
  Random random_;
  std::vector<float> logits_;
  std::vector<Token> window_;
  std::vector<Candidate> candidates_;  ///< the first sorted_ are the likeliest, likeliest first
  size_t sorted_ = 0;
  float largest_ = 0;          ///< logit
  double total_ = 0;           ///< sum of exp(logit - largest_) over everything top_k kept
  std::vector<float> scores_;  ///< scratch
};

}  // namespace fewbits
