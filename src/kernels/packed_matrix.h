#pragma once

#include <vector>

#include "kernels/groups.h"
#include "kernels/matmul.h"
#include "kernels/weight_memory.h"

namespace fewbits {

struct PackedMatrix::Impl {
  RowSource source;                ///< its bytes are read only where `packed` is empty
  std::vector<int32_t> row_order;  ///< what source.order points to
  std::vector<std::byte> kept;     ///< what source.weights borrows, where nobody else keeps it
  GroupLayout layout;
  std::vector<float> row_scales;  ///< of SuperScale::kRow, in packed order and zeros for the rest
                                  ///< of the last group
  WeightMemory packed;  ///< all groups one after the other, or nothing: then they are made when
                        ///< they are used

  int64_t rows() const { return source.weights.rows(); }
  int64_t columns() const { return source.weights.columns(); }
  int64_t groups() const { return (rows() + kGroupRows - 1) / kGroupRows; }
  int64_t group_size() const { return group_bytes(layout, columns()); }

  /// The bytes of a group, made in `scratch` (group_size) where they are not kept.
  const std::byte* group(int64_t index, std::byte* scratch) const {
    if (packed.size() > 0) return packed.data() + index * group_size();
    pack_group(source, layout, index, scratch);
    return scratch;
  }
};

}  // namespace fewbits
