#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/config.h"

// Rotary positions: pair (x[i], x[i + n/2]) of the first n dimensions of a query or key at position
// p turns by the angle p * frequency[i], frequency[i] = theta^(-2i / n), divided by the scaling of
// the model (RoFormer, arXiv 2104.09864). n is the head's size, or a part of it.
namespace fewbits {

/// [n / 2], in double: at position 100,000 a float's angle would be off by 0.01. `factors`
/// are the divisors of rope_freqs.weight, or empty.
std::vector<double> rope_frequencies(const ModelConfig& config, std::span<const float> factors);

/// Those of layers with a sliding window where the model gives them a base of their own, else
/// empty.
std::vector<double> local_rope_frequencies(const ModelConfig& config);

struct RopeFrequencies {
  std::vector<double> all = {};
  std::vector<double> local = {};  ///< of layers with a sliding window; empty: the same
  std::vector<double> far = {};    ///< in place of `all` beyond near_context; empty: the same
  int64_t near_context = 0;
  double magnitude = 1;  ///< what turned vectors of length 1 are scaled to, but for `local`
};

/// Cosines and sines for the positions of one pass, shared by all its layers and heads.
class RopeTable {
 public:
  RopeTable(RopeFrequencies frequencies, int64_t most_tokens);

  /// Token t of the pass stands at first_position + t, in a text of at most `context` tokens where
  /// that is known; one text must be given one context. REQUIRES: tokens <= most_tokens.
  void prepare(int64_t first_position, int64_t tokens, int64_t context = 0);

  /// The same of one token of a pass over several texts. REQUIRES: 0 <= token < most_tokens.
  void prepare_token(int64_t token, int64_t position, int64_t context);

  const float* cosines(int64_t token, bool local = false) const {
    return of(local).cosines.data() + token * pairs_;
  }
  const float* sines(int64_t token, bool local = false) const {
    return of(local).sines.data() + token * pairs_;
  }

 private:
  struct Angles {
    std::vector<float> cosines, sines;
  };
  struct Pass {
    int64_t first_position, tokens, first_token;
  };
  void prepare(Pass pass, int64_t context);
  bool has_local() const { return !frequencies_.local.empty(); }
  const Angles& of(bool local) const { return local && has_local() ? local_ : all_; }
  static void fill(Angles& angles, const std::vector<double>& frequencies, double magnitude,
                   Pass pass);

  RopeFrequencies frequencies_;
  int64_t pairs_;
  Angles all_, local_;
};

}  // namespace fewbits
