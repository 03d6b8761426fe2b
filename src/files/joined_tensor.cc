#include "files/joined_tensor.h"

#include <bit>
#include <cstring>

#include "base/error.h"

namespace fewbits {
namespace {

Outer outer_of(const Format& format, const CodedMatrix& matrix, const CodedRow& row) {
  if (format.sharing == Sharing::kBlock) return {};
  if (matrix.tensor_scale) return {*matrix.tensor_scale};
  return {row.scales[0], row.zeros.empty() ? 0 : row.zeros[0]};
}

Grid grid_of(const CodedRow& row, size_t group) {
  const float scale = row.scales[group];
  return {scale, row.zeros.empty() ? 0 : -(scale * row.zeros[group])};
}

/// So that scale * level and scale * zero are exact, and their sum is rounded once as in
/// scale * (level - zero).
bool is_short(float scale) {
  constexpr uint32_t kLowest = 0xff;  // bits; levels and zeros have 8
  return (std::bit_cast<uint32_t>(scale) & kLowest) == 0;
}

/// Whether the format's grids are those of the row to the last bit.
bool holds(const Format& format, const CodedMatrix& matrix, const CodedRow& row) {
  BlockParameters parameters;
  parameters.outer = outer_of(format, matrix, row);
  for (size_t group = 0; group < row.scales.size(); ++group) {
    const Grid wanted = grid_of(row, group);
    format.snap(&wanted, parameters);
    Grid found;
    format.grids(parameters, &found);
    if (found.scale != wanted.scale) return false;
    if (!row.zeros.empty() && (found.offset != wanted.offset || !is_short(wanted.scale)))
      return false;
  }
  return true;
}

bool fits(const Format& format, const CodedMatrix& matrix) {
  const bool own_grids = format.sharing == Sharing::kBlock || matrix.tensor_scale;
  const int64_t group = own_grids ? format.block_values : matrix.columns;
  return format.sub_blocks() == 1 && matrix.group_values == group &&
         matrix.group_of_column.empty() && format.levels.size() == matrix.levels.size() &&
         matrix.columns % format.block_values == 0;
}

const Format& format_for(const CodedMatrix& matrix) {
  const Format& floats = format_named("F32");
  const Format* format = matrix.format.empty() ? nullptr : find_format(matrix.format);
  if (format == nullptr || !fits(*format, matrix)) return floats;
  CodedRow row;
  for (int64_t i = 0; i < matrix.rows; ++i) {
    matrix.read_grids(i, row);
    if (!holds(*format, matrix, row)) return floats;
  }
  return *format;
}

}  // namespace

JoinedTensor::JoinedTensor(CodedMatrix matrix)
    : matrix_(std::move(matrix)), format_(&format_for(matrix_)) {
  check(matrix_.group_of_column.empty() || std::ssize(matrix_.group_of_column) == matrix_.columns);
  drop_pages();
}

JoinedTensor::JoinedTensor(ComputedMatrix matrix)
    : compute_(std::move(matrix.read)), format_(&format_named("F32")) {
  matrix_.rows = matrix.rows;
  matrix_.columns = matrix.columns;
  matrix_.parts = std::move(matrix.parts);
}

void JoinedTensor::read_row(int64_t row, std::byte* out) const {
  if (compute_) {
    std::vector<float> values(static_cast<size_t>(matrix_.columns));
    compute_(row, values.data());
    std::memcpy(out, values.data(), values.size() * sizeof(float));
    return;
  }
  CodedRow coded;
  matrix_.read_codes(row, coded);
  matrix_.read_grids(row, coded);
  if (!format_->is_float()) return pack(coded, out);
  std::vector<float> values(static_cast<size_t>(matrix_.columns));
  read_floats(coded, values.data());
  std::memcpy(out, values.data(), values.size() * sizeof(float));
}

void JoinedTensor::read_floats(const CodedRow& row, float* out) const {
  for (int64_t i = 0; i < matrix_.columns; ++i) {
    const auto column = static_cast<size_t>(i);
    const auto group = matrix_.group_of_column.empty()
                           ? static_cast<size_t>(i / matrix_.group_values)
                           : static_cast<size_t>(matrix_.group_of_column[column]);
    const float zero = row.zeros.empty() ? 0 : row.zeros[group];
    out[i] = row.scales[group] * (matrix_.levels[row.codes[column]] - zero);
  }
}

void JoinedTensor::pack(const CodedRow& row, std::byte* out) const {
  const int64_t blocks = matrix_.columns / format_->block_values;
  std::vector<BlockParameters> parameters(static_cast<size_t>(blocks));
  for (size_t i = 0; i < parameters.size(); ++i) {
    parameters[i].outer = outer_of(*format_, matrix_, row);
    if (i >= row.scales.size()) continue;  // one scale for the row: it is in `outer`
    const Grid wanted = grid_of(row, i);
    format_->snap(&wanted, parameters[i]);
  }
  pack_row(*format_, parameters.data(), row.codes.data(), matrix_.columns, out);
}

int64_t JoinedTensor::stored_bytes() const {
  int64_t bytes = 0;
  for (const FilePart& part : matrix_.parts) bytes += std::ssize(part.bytes);
  return bytes;
}

void JoinedTensor::drop_pages() const {
  for (const FilePart& part : matrix_.parts) {
    if (part.file != nullptr) part.file->drop(part.bytes);
  }
}

}  // namespace fewbits
