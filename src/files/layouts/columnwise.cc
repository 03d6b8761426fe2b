#include "files/layouts/columnwise.h"

#include <fmt/format.h>

#include <bit>
#include <cstring>

#include "base/checked_math.h"
#include "base/error.h"
#include "base/half.h"

namespace fewbits {
namespace {

bool all_in_the_middle(const ColumnwiseGrids& grids, int64_t rows) {
  const int middle = 1 << (grids.bits - 1);
  for (int64_t group = 0; group < grids.scales->rows(); ++group) {
    for (int64_t row = 0; row < rows; ++row) {
      if (grids.zero_of(row, group) != middle) return false;
    }
  }
  return true;
}

template <class Value>
void append_all(const std::vector<Value>& values, std::vector<std::byte>& out) {
  const auto bytes = std::as_bytes(std::span(values));
  out.insert(out.end(), bytes.begin(), bytes.end());
}

/// Keeps the words of all rows until the last has come: those of one row lie all over them.
class ColumnwiseTensor : public LayoutTensor {
 public:
  ColumnwiseTensor(const Columnwise& layout, const Format& format, std::string module, Shape shape)
      : layout_(layout),
        format_(format),
        module_(std::move(module)),
        integers_(*int_format(format)),
        sizes_{integers_.bits, shape[0], shape[1]},
        groups_(integers_.group < 0 ? 1 : sizes_.columns / integers_.group) {
    constexpr int64_t kWordBits = 32;
    if (sizes_.columns * sizes_.bits % kWordBits != 0 ||
        sizes_.rows * sizes_.bits % kWordBits != 0) {
      throw Error(
          fmt::format("{}: {} x {} codes of {} bits fill no whole words, as this layout wants",
                      module_, sizes_.rows, sizes_.columns, sizes_.bits));
    }
  }

  std::vector<SafetensorsEntry> entries() const override {
    const auto entry = [&](const char* suffix, const char* dtype, Shape shape, int64_t size) {
      int64_t bytes = size;
      for (const int64_t extent : shape) bytes *= extent;
      return SafetensorsEntry{module_ + suffix, dtype, std::move(shape), bytes};
    };
    std::vector<SafetensorsEntry> all = {
        entry(".qweight", "I32", layout_.code_words(sizes_), 4),
        entry(".qzeros", "I32", {groups_, sizes_.rows * sizes_.bits / 32}, 4),
        entry(".scales", "F16", {groups_, sizes_.rows}, 2)};
    if (layout_.group_indices) all.push_back(entry(".g_idx", "I32", {sizes_.columns}, 4));
    return all;
  }

  std::span<const std::byte> append_rows(std::span<const std::byte> bytes) override {
    if (codes_.empty()) make_room();
    const int64_t stride = row_bytes(format_, sizes_.columns);
    for (int64_t i = 0; i < std::ssize(bytes) / stride; ++i) append_row(bytes.data() + i * stride);
    return {};
  }

  std::vector<std::byte> rest() override {
    check(next_row_ == sizes_.rows);
    std::vector<std::byte> out;
    append_all(codes_, out);
    append_all(zeros_, out);
    append_all(scales_, out);
    if (layout_.group_indices) {
      append_all(groups_of_columns(sizes_.columns, sizes_.columns / groups_), out);
    }
    return out;
  }

 private:
  void make_room() {
    const Shape words = layout_.code_words(sizes_);
    codes_.resize(static_cast<size_t>(words[0] * words[1]));
    zeros_.resize(static_cast<size_t>(groups_ * sizes_.rows * sizes_.bits / 32));
    scales_.resize(static_cast<size_t>(groups_ * sizes_.rows));
  }

  void append_row(const std::byte* row) {
    BlockParameters parameters;
    if (format_.outer_bytes >= 4) std::memcpy(&parameters.outer.scale, row, 4);
    if (format_.outer_bytes >= 8) std::memcpy(&parameters.outer.zero, row + 4, 4);
    row += format_.outer_bytes;
    if (integers_.group < 0) {
      put_grid(0, half_of(parameters.outer.scale), static_cast<uint8_t>(parameters.outer.zero));
    }
    std::vector<uint8_t> codes(static_cast<size_t>(format_.block_values));
    for (int64_t i = 0; i < sizes_.columns; i += format_.block_values, row += format_.block_bytes) {
      format_.unpack(row, parameters, codes.data());
      if (integers_.group > 0)
        put_grid(i / integers_.group, parameters.scale, parameters.sub_minimum[0]);
      for (size_t j = 0; j < codes.size(); ++j) {
        const int64_t column = column_of(i + static_cast<int64_t>(j));
        layout_.put_code(sizes_, next_row_, column, codes[j], codes_.data());
      }
    }
    ++next_row_;
  }

  void put_grid(int64_t group, uint16_t scale, uint8_t zero) {
    scales_[static_cast<size_t>(group * sizes_.rows + next_row_)] = scale;
    const unsigned whole = integers_.zeros ? zero : 1u << (sizes_.bits - 1);
    const unsigned stored =
        (whole - static_cast<unsigned>(layout_.zero_shift)) & ((1u << sizes_.bits) - 1);
    layout_.put_zero(sizes_, next_row_, group, static_cast<uint8_t>(stored), zeros_.data());
  }

  /// Scales of rows have as many bits as halves, but more exponents.
  uint16_t half_of(float scale) const {
    const uint16_t half = half_from_float(scale);
    if (half_to_float(half) == scale) return half;
    throw Error(
        fmt::format("{}: the scale {} of row {} is no half, which this layout wants; take a "
                    "format with groups",
                    module_, scale, next_row_));
  }

  const Columnwise& layout_;
  const Format& format_;
  std::string module_;
  IntFormat integers_;
  MatrixSizes sizes_;
  int64_t groups_;
  int64_t next_row_ = 0;
  std::vector<uint32_t> codes_, zeros_;
  std::vector<uint16_t> scales_;  ///< [group][row]
};

}  // namespace

std::optional<IntFormat> int_format(const Format& format) {
  if (!format.name.starts_with("int") || format.sharing == Sharing::kTensor) return std::nullopt;
  const int64_t group = format.sharing == Sharing::kBlock ? format.block_values : -1;
  return IntFormat{static_cast<int>(std::bit_width(format.levels.size() - 1)),
                   format.name.ends_with("_asym"), group};
}

std::unique_ptr<LayoutTensor> columnwise_tensor(const Columnwise& layout, const Format& format,
                                                std::string module, Shape shape) {
  return std::make_unique<ColumnwiseTensor>(layout, format, std::move(module), std::move(shape));
}

void read_columnwise_grids(Parts& parts, const ColumnwiseGrids& grids, CodedMatrix& matrix) {
  const Part& scales = *grids.scales;
  const int64_t groups = scales.rows(), rows = matrix.rows;
  const int64_t wanted = json_integer_or(parts.config(), "group_size", -1, parts.where());
  parts.demand_shape(scales, {groups, rows});
  matrix.group_values = group_size(matrix.columns, groups, {&wanted, 1});
  if (matrix.group_values == 0) {
    parts.fail(scales, fmt::format("{} groups do not fit {} columns", groups, matrix.columns));
  }
  const bool symmetric = all_in_the_middle(grids, rows);
  matrix.levels = symmetric ? signed_levels(grids.bits) : unsigned_levels(grids.bits);
  matrix.format = fmt::format("int{}_{}{}", grids.bits,
                              groups == 1 ? "channel" : fmt::format("g{}", matrix.group_values),
                              symmetric ? "" : "_asym");
  matrix.read_grids = [read = float_reader(parts, scales), bytes = scales.bytes(), groups, rows,
                       symmetric, zero_of = grids.zero_of](int64_t row, CodedRow& out) {
    out.scales.resize(static_cast<size_t>(groups));
    out.zeros.resize(symmetric ? 0 : out.scales.size());
    for (int64_t g = 0; g < groups; ++g) {
      out.scales[static_cast<size_t>(g)] = read(bytes, g * rows + row);
      if (!symmetric) out.zeros[static_cast<size_t>(g)] = zero_of(row, g);
    }
  };
}

}  // namespace fewbits
