#include "kernels/groups.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/error.h"
#include "kernels/block_packing.h"

namespace fewbits {
namespace {

int64_t value_bytes(GroupLayout layout) {
  return layout.kind == GroupLayout::Kind::kF32 ? 4 : 2;
}

/// out[column][row] = in[column]; rows in a file need not be aligned.
template <class Value>
void interleave(const std::byte* in, int64_t columns, int64_t row, std::byte* out) {
  constexpr int64_t kSize = sizeof(Value);
  for (int64_t k = 0; k < columns; ++k)
    std::memcpy(out + (k * kGroupRows + row) * kSize, in + k * kSize, kSize);
}

template <class Value>
void gather(const std::byte* group, int64_t columns, int64_t row, std::byte* out) {
  constexpr int64_t kSize = sizeof(Value);
  for (int64_t k = 0; k < columns; ++k)
    std::memcpy(out + k * kSize, group + (k * kGroupRows + row) * kSize, kSize);
}

void pack_as_floats(const Format& format, const std::byte* in, int64_t columns, int64_t row,
                    std::byte* out) {
  thread_local std::vector<float> values;
  values.resize(static_cast<size_t>(columns));
  decode(format, in, columns, values.data());
  interleave<float>(reinterpret_cast<const std::byte*>(values.data()), columns, row, out);
}

}  // namespace

GroupLayout layout_for(const Format& format, bool float_math) {
  if (format.name == "F16") return {GroupLayout::Kind::kF16};
  if (format.name == "BF16") return {GroupLayout::Kind::kBF16};
  for (int i = 0; i < kBlockLayoutCount && !float_math; ++i) {
    if (format.name == kBlockLayouts[i].format) return {GroupLayout::Kind::kBlocks, i};
  }
  return {GroupLayout::Kind::kF32};
}

int64_t group_bytes(GroupLayout layout, int64_t columns) {
  if (!layout.is_blocks()) return columns * kGroupRows * value_bytes(layout);
  const BlockLayout& blocks = layout.blocks();
  return columns / (kBlockValues * blocks.super_blocks) * blocks.super_bytes();
}

void pack_group(const RowSource& source, GroupLayout layout, int64_t group, std::byte* out) {
  const int64_t columns = source.weights.columns();
  const Format& format = *source.weights.format;
  const int64_t first = group * kGroupRows;
  const int64_t count = std::min<int64_t>(kGroupRows, source.weights.rows() - first);
  if (count < kGroupRows) std::memset(out, 0, static_cast<size_t>(group_bytes(layout, columns)));
  for (int64_t row = 0; row < count; ++row) {
    const std::byte* in = source.row(first + row);
    if (layout.is_blocks()) {
      pack_block_row(layout.blocks(), format, in + format.outer_bytes, columns, row, as_bytes(out));
    } else if (layout.kind == GroupLayout::Kind::kF32) {
      pack_as_floats(format, in, columns, row, out);
    } else {
      interleave<uint16_t>(in, columns, row, out);
    }
  }
}

void unpack_row(const std::byte* group, GroupLayout layout, int64_t row, const Format& format,
                int64_t columns, std::byte* out) {
  if (layout.is_blocks()) {
    unpack_block_row(layout.blocks(), format, as_bytes(group), columns, row, out);
  } else if (layout.kind == GroupLayout::Kind::kF32) {
    check(format.is_float());
    gather<float>(group, columns, row, out);
  } else {
    gather<uint16_t>(group, columns, row, out);
  }
}

}  // namespace fewbits
