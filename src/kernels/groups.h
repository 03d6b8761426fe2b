#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "formats/tensor_view.h"
#include "kernels/kernel_table.h"

// Weights in groups of 16 rows, the only layout that kernels read. Rows beyond the matrix are
// zeros.
namespace fewbits {

/// What lies in a group.
struct GroupLayout {
  enum class Kind {
    kF32,     ///< floats [column][16]
    kF16,     ///< IEEE halves [column][16]
    kBF16,    ///< bfloats [column][16]
    kBlocks,  ///< packed blocks, see block_layout.h
  };
  Kind kind = Kind::kF32;
  int block_layout = 0;  ///< index into kBlockLayouts, of kBlocks

  bool is_blocks() const { return kind == Kind::kBlocks; }
  const BlockLayout& blocks() const { return kBlockLayouts[block_layout]; }
  bool scales_rows() const { return is_blocks() && blocks().super_scale == SuperScale::kRow; }
};

/// Rows of a matrix in the order in which they are packed.
struct RowSource {
  TensorView weights;
  std::span<const int32_t> order;  ///< empty: as they come

  const std::byte* row(int64_t index) const {
    return weights.row(order.empty() ? index : order[static_cast<size_t>(index)]).data();
  }
};

/// The layout that keeps a format's bytes. Floats where none is known, and for blocks with
/// `float_math`.
GroupLayout layout_for(const Format& format, bool float_math);

int64_t group_bytes(GroupLayout layout, int64_t columns);

/// Fills `out` (group_bytes) with the rows from 16 * group on.
void pack_group(const RowSource& source, GroupLayout layout, int64_t group, std::byte* out);

/// The inverse for one row: its bytes as they were in `format`, but for the outer parameters before
/// the blocks.
void unpack_row(const std::byte* group, GroupLayout layout, int64_t row, const Format& format,
                int64_t columns, std::byte* out);

}  // namespace fewbits
