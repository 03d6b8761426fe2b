#pragma once

#include <algorithm>
#include <array>

#include "formats/block32.h"
#include "formats/reference.h"

// ggml's encoders of the blocks of 32 values with one grid.
namespace fewbits::reference {

/// Without importance: the value of largest magnitude becomes the lowest level; the others are
/// rounded with the scale as it was before it became a half.
void encode_symmetric(const Format& format, const float* values, std::byte* block);

/// Without importance: least value to greatest.
void encode_range(const Format& format, const float* values, std::byte* block);

/// With importance, four blocks at a time: a search in float, whose codes are kept.
void encode_weighted_row(const Format& format, const float* row, int64_t columns,
                         const float* importance, std::byte* out);

template <const Format& format, bool kMinimum>
void encode_row32(const float* row, int64_t columns, const float* importance, std::byte* out) {
  if (importance) return encode_weighted_row(format, row, columns, importance, out);
  for (int64_t i = 0; i < columns; i += block32::kValues, out += format.block_bytes) {
    (kMinimum ? encode_range : encode_symmetric)(format, row + i, out);
  }
}

}  // namespace fewbits::reference
