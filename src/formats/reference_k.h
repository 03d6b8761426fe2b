#pragma once

#include "formats/k_blocks.h"
#include "formats/reference.h"

// ggml's encoders of the K-quants that have a minimum: Q2_K, Q4_K, Q5_K.
namespace fewbits::reference {

/// How they differ.
struct WithMinimum {
  Tries plain;       ///< without importance
  Tries weighted;    ///< with importance
  int scale_limit;   ///< greatest sub-scale and sub-minimum
  float spread;      ///< times the mean square of a super-block: see importance_weights
  bool rms_weights;  ///< without importance: weights rms + |value| and squares, or |value| and
                     ///< absolute errors
};

/// One super-block.
void encode_with_minimum(const Format& format, const WithMinimum& how, const float* values,
                         const float* importance, std::byte* block);

/// A row.
template <const Format& format, const WithMinimum& how>
void encode_row_with_minimum(const float* row, int64_t columns, const float* importance,
                             std::byte* out) {
  for (int64_t i = 0; i < columns; i += k_blocks::kValues, out += format.block_bytes) {
    encode_with_minimum(format, how, row + i, importance ? importance + i : nullptr, out);
  }
}

}  // namespace fewbits::reference
