#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/token_ranking.h"
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
  void penalize(std::span<const Token> history);
  void restrict();
  double weight(size_t rank, double temperature);
  double weight_of_kept(double temperature);
  Token draw();

  SamplerOptions options_;
  Random random_;
  std::vector<float> logits_;
  std::vector<Token> window_;
  TokenRanking ranking_;
  size_t kept_ = 0;            ///< the likeliest so many can be drawn
  std::vector<float> scores_;  ///< scratch
};

}  // namespace fewbits
