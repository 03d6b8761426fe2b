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

/// Cosines and sines for the positions of one pass, shared by all its layers and heads.
class RopeTable {
 public:
  /// `local`: of layers with a sliding window; empty: the same.
  RopeTable(std::vector<double> frequencies, int64_t most_tokens, std::vector<double> local = {});

  /// Token t of the pass stands at first_position + t. REQUIRES: tokens <= most_tokens.
  void prepare(int64_t first_position, int64_t tokens);

  const float* cosines(int64_t token, bool local = false) const {
    return of(local).cosines.data() + token * pairs_;
  }
  const float* sines(int64_t token, bool local = false) const {
    return of(local).sines.data() + token * pairs_;
  }

 private:
  struct Angles {
    std::vector<double> frequencies;
    std::vector<float> cosines, sines;
  };
  const Angles& of(bool local) const { return local && has_local_ ? local_ : all_; }
  static void fill(Angles& angles, int64_t first_position, int64_t tokens);

  int64_t pairs_;
  bool has_local_;
  Angles all_, local_;
};

}  // namespace fewbits
