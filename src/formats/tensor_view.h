#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "formats/format.h"

namespace fewbits {

/// Sizes of a tensor, outermost first; the last is contiguous. A matrix is {rows, columns}.
using Shape = std::vector<int64_t>;

/// Borrows a tensor's bytes from a mapped file or a buffer.
struct TensorView {
  const Format* format = nullptr;
  Shape shape;
  std::span<const std::byte> bytes;

  /// Values in a row: the last size. 1 for a scalar.
  int64_t columns() const { return shape.empty() ? 1 : shape.back(); }
  /// All the other sizes multiplied.
  int64_t rows() const {
    int64_t rows = 1;
    for (size_t i = 0; i + 1 < shape.size(); ++i) rows *= shape[i];
    return rows;
  }
  int64_t values() const { return rows() * columns(); }
  std::span<const std::byte> row(int64_t index) const {
    const auto size = static_cast<size_t>(row_bytes(*format, columns()));
    return bytes.subspan(static_cast<size_t>(index) * size, size);
  }
};

}  // namespace fewbits
