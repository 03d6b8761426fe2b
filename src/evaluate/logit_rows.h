#pragma once

#include <cstdint>
#include <span>

// Arithmetic on rows of logits: the inner loops of all measuring, one row of a vocabulary (32
// thousand to 256 thousand values) at a time. Exponentials are floats accurate to 1e-7, sums are
// doubles in a fixed order: a divergence between close models, the mean of many tiny differences,
// keeps its digits, and every machine gives the same bits.
namespace fewbits {

/// What one row of logits says.
struct LogitRow {
  bool finite = false;  ///< false: a NaN or an infinity is among them, and nothing else here is set
  float max = 0;
  int64_t top = 0;         ///< the first of the largest
  double log_sum_exp = 0;  ///< -log p(token) = log_sum_exp - logits[token]
};

LogitRow summarize(std::span<const float> logits);

/// -log p(token) in nats.
inline double loss_of(const LogitRow& row, std::span<const float> logits, int64_t token) {
  return row.log_sum_exp - static_cast<double>(logits[static_cast<size_t>(token)]);
}

struct LogitPair {
  LogitRow reference;
  LogitRow model;
  /// Kullback-Leibler divergence of the model from the reference: sum p (log p - log q), p the
  /// reference's. In nats, never negative (rounding may say -1e-9; that is 0). Set where both rows
  /// are finite.
  double divergence = 0;
};

/// REQUIRES: equal sizes.
LogitPair compare(std::span<const float> reference, std::span<const float> model);

}  // namespace fewbits
