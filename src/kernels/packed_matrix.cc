#include "kernels/packed_matrix.h"

#include <cstring>

#include "base/checked_math.h"
#include "base/error.h"
#include "kernels/block_packing.h"

namespace fewbits {
namespace {

/// Whether the groups are kept. Block formats in float are not: they would take up to 16 times
/// their size.
bool keeps_groups(const Format& format, PackOptions options) {
  const bool own_layout = format.is_float() || layout_for(format, options.float_math).is_blocks();
  return options.repack && own_layout;
}

/// The scales before the blocks of each row.
std::vector<float> read_row_scales(const PackedMatrix::Impl& matrix) {
  std::vector<float> scales(static_cast<size_t>(matrix.groups() * kGroupRows));
  for (int64_t row = 0; row < matrix.rows(); ++row) {
    std::memcpy(&scales[static_cast<size_t>(row)], matrix.source.row(row), sizeof(float));
  }
  return scales;
}

void pack_all(PackedMatrix::Impl& matrix, ThreadPool& pool) {
  matrix.packed = WeightMemory(matrix.groups() * matrix.group_size());
  pool.run(matrix.groups(), [&](int64_t group, int) {
    pack_group(matrix.source, matrix.layout, group,
               matrix.packed.data() + group * matrix.group_size());
  });
}

}  // namespace

PackedMatrix::PackedMatrix() = default;
PackedMatrix::PackedMatrix(PackedMatrix&&) noexcept = default;
PackedMatrix& PackedMatrix::operator=(PackedMatrix&&) noexcept = default;
PackedMatrix::~PackedMatrix() = default;

PackedMatrix PackedMatrix::pack(const TensorView& weights, std::span<const int32_t> row_order,
                                PackOptions options, ThreadPool& pool) {
  check(weights.format != nullptr && weights.columns() > 0);
  check(row_order.empty() || std::ssize(row_order) == weights.rows());
  PackedMatrix matrix;
  matrix.impl_ = std::make_unique<Impl>();
  Impl& impl = *matrix.impl_;
  impl.row_order.assign(row_order.begin(), row_order.end());
  impl.source = {weights, impl.row_order};
  impl.layout = layout_for(*weights.format, options.float_math);
  if (impl.layout.scales_rows()) impl.row_scales = read_row_scales(impl);
  if (keeps_groups(*weights.format, options)) {
    pack_all(impl, pool);
    impl.source.weights.bytes = {};
  }
  return matrix;
}

PackedMatrix PackedMatrix::keep(const Format& format, Shape shape, std::vector<std::byte> bytes,
                                PackOptions options, ThreadPool& pool) {
  PackedMatrix matrix = pack({&format, std::move(shape), bytes}, {}, options, pool);
  if (matrix.impl_->packed.size() == 0) matrix.impl_->kept = std::move(bytes);
  return matrix;
}

int64_t PackedMatrix::rows() const {
  return impl_ == nullptr ? 0 : impl_->rows();
}
int64_t PackedMatrix::columns() const {
  return impl_->columns();
}
const Format& PackedMatrix::format() const {
  return *impl_->source.weights.format;
}

bool PackedMatrix::multiplies_codes() const {
  return impl_ != nullptr && impl_->layout.is_blocks();
}

int64_t PackedMatrix::bytes() const {
  return impl_ == nullptr ? 0 : rows() * row_bytes(format(), columns());
}

void PackedMatrix::decode_row(int64_t row, float* out) const {
  check(row >= 0 && row < rows());
  if (impl_->packed.size() == 0) return decode(format(), impl_->source.row(row), columns(), out);
  const std::byte* group = impl_->packed.data() + row / kGroupRows * impl_->group_size();
  if (impl_->layout.is_blocks() && impl_->layout.blocks().vectors()) {
    return decode_block_row(impl_->layout.blocks(), format(), as_bytes(group), columns(),
                            row % kGroupRows, out);
  }
  std::vector<std::byte> bytes(static_cast<size_t>(row_bytes(format(), columns())));
  std::byte* blocks = bytes.data() + format().outer_bytes;
  if (impl_->layout.scales_rows())
    std::memcpy(bytes.data(), &impl_->row_scales[static_cast<size_t>(row)], sizeof(float));
  unpack_row(group, impl_->layout, row % kGroupRows, format(), columns(), blocks);
  decode(format(), bytes.data(), columns(), out);
}

}  // namespace fewbits
