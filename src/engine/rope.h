#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/config.h"

// Rotary positions: pair (x[i], x[i + head_dim/2]) of a query or key at position p turns by the
// angle p * frequency[i], frequency[i] = theta^(-2i / head_dim), divided by the scaling of the
// model (RoFormer, arXiv 2104.09864).
namespace fewbits {

/// [head_dim / 2], in double: at position 100,000 a float's angle would be off by 0.01. `factors`
/// are the divisors of rope_freqs.weight, or empty.
std::vector<double> rope_frequencies(const ModelConfig& config, std::span<const float> factors);

/// Cosines and sines for the positions of one pass, shared by all its layers and heads.
class RopeTable {
 public:
  RopeTable(std::vector<double> frequencies, int64_t most_tokens);

  /// Token t of the pass stands at first_position + t. REQUIRES: tokens <= most_tokens.
  void prepare(int64_t first_position, int64_t tokens);

  const float* cosines(int64_t token) const { return cosines_.data() + token * pairs(); }
  const float* sines(int64_t token) const { return sines_.data() + token * pairs(); }

 private:
  int64_t pairs() const { return static_cast<int64_t>(frequencies_.size()); }

  std::vector<double> frequencies_;
  std::vector<float> cosines_, sines_;
};

}  // namespace fewbits
