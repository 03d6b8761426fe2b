#include "kernels/groups.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/error.h"

namespace fewbits {
namespace {

/// out[column][row] = in[column]
template <class Value>
void interleave(const Value* in, int64_t columns, int64_t row, std::byte* out) {
  auto* values = reinterpret_cast<Value*>(out) + row;
  for (int64_t k = 0; k < columns; ++k) values[k * kGroupRows] = in[k];
}

void pack_float_row(const RowSource& source, int64_t index, int64_t row, std::byte* out) {
  const int64_t columns = source.weights.columns();
  thread_local std::vector<float> values;
  values.resize(static_cast<size_t>(columns));
  decode(*source.weights.format, source.row(index), columns, values.data());
  interleave(values.data(), columns, row, out);
}

/// Rows in a file need not be aligned.
void pack_half_row(const RowSource& source, int64_t index, int64_t row, std::byte* out) {
  const int64_t columns = source.weights.columns();
  thread_local std::vector<uint16_t> values;
  values.resize(static_cast<size_t>(columns));
  std::memcpy(values.data(), source.row(index), values.size() * sizeof(uint16_t));
  interleave(values.data(), columns, row, out);
}

}  // namespace

GroupLayout layout_for(const Format& format, bool float_math) {
  if (float_math) return GroupLayout::kF32;
  if (format.name == "F16") return GroupLayout::kF16;
  if (format.name == "BF16") return GroupLayout::kBF16;
  return GroupLayout::kF32;
}

int64_t group_bytes(GroupLayout layout, int64_t columns) {
  const int64_t value_bytes = layout == GroupLayout::kF32 ? 4 : 2;
  return columns * kGroupRows * value_bytes;
}

void pack_group(const RowSource& source, GroupLayout layout, int64_t group, std::byte* out) {
  const int64_t first = group * kGroupRows;
  const int64_t count = std::min<int64_t>(kGroupRows, source.weights.rows() - first);
  if (count < kGroupRows) {
    std::memset(out, 0, static_cast<size_t>(group_bytes(layout, source.weights.columns())));
  }
  for (int64_t row = 0; row < count; ++row) {
    if (layout == GroupLayout::kF32) {
      pack_float_row(source, first + row, row, out);
    } else {
      pack_half_row(source, first + row, row, out);
    }
  }
}

}  // namespace fewbits
