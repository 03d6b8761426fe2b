#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "formats/format.h"
#include "formats/search_robust.h"

namespace fewbits {
namespace {

bool is_uniform(const Format& format) {
  return format.bounds.empty();
}

Outer load_outer(const Format& format, const std::byte* row) {
  Outer outer;
  if (format.outer_bytes >= 4) std::memcpy(&outer.scale, row, 4);
  if (format.outer_bytes >= 8) std::memcpy(&outer.zero, row + 4, 4);
  return outer;
}

void store_outer(const Format& format, const Outer& outer, std::byte* row) {
  if (format.outer_bytes >= 4) std::memcpy(row, &outer.scale, 4);
  if (format.outer_bytes >= 8) std::memcpy(row + 4, &outer.zero, 4);
}

/// Float value -> nearest integer, ties to even, for |value| < 2^22. Unlike nearbyint, it
/// vectorises on any machine: the sum has no bits left for a fraction.
inline float round_to_even(float value) {
  constexpr float kShifter = 12582912.0f;  // 1.5 * 2^23
  return (value + kShifter) - kShifter;
}

void decode_block(const Format& format, const Outer& outer, const std::byte* block, float* out) {
  BlockParameters parameters{.outer = outer};
  std::array<uint8_t, kMaxBlockValues> codes;
  std::array<Grid, kMaxSubBlocks> grids;
  format.unpack(block, parameters, codes.data());
  format.grids(parameters, grids.data());
  const int32_t size = format.sub_block_values;
  for (int32_t s = 0; s < format.sub_blocks(); ++s) {
    values_of_codes(format, grids[static_cast<size_t>(s)], codes.data() + s * size, size,
                    out + s * size);
  }
}

struct Block {
  BlockParameters parameters;
  std::array<uint8_t, kMaxBlockValues> codes;
  std::array<float, kMaxBlockValues> decoded;
};

/// Codes and stored values of a block from its parameters.
void round_block(const Format& format, const float* values, Block& block) {
  std::array<Grid, kMaxSubBlocks> grids;
  format.grids(block.parameters, grids.data());
  const int32_t size = format.sub_block_values;
  for (int32_t s = 0; s < format.sub_blocks(); ++s) {
    const Grid grid = grids[static_cast<size_t>(s)];
    uint8_t* codes = block.codes.data() + s * size;
    round_to_grid(format, grid, values + s * size, size, codes);
    values_of_codes(format, grid, codes, size, block.decoded.data() + s * size);
  }
}

/// sum weight * error^2 in double, so that the comparison with the reference does not err.
double weighted_error(const float* values, const float* decoded, const float* weights,
                      int64_t count) {
  std::array<double, 4> sums{};
  for (int64_t i = 0; i < count; i += 4) {
    for (int64_t lane = 0; lane < 4; ++lane) {
      const double difference =
          static_cast<double>(values[i + lane]) - static_cast<double>(decoded[i + lane]);
      const double weight = weights ? static_cast<double>(weights[i + lane]) : 1.0;
      sums[static_cast<size_t>(lane)] += weight * (difference * difference);
    }
  }
  return sums[0] + sums[1] + sums[2] + sums[3];
}

/// Replaces the reference's block in `out` where the searched parameters are better, or where there
/// is no reference.
void improve_block(const Format& format, const float* values, const float* weights, Block& block,
                   std::byte* out) {
  round_block(format, values, block);
  if (!format.encode_reference) return format.pack(block.parameters, block.codes.data(), out);
  const double error = weighted_error(values, block.decoded.data(), weights, format.block_values);
  std::array<float, kMaxBlockValues> reference;
  decode_block(format, block.parameters.outer, out, reference.data());
  const double limit = weighted_error(values, reference.data(), weights, format.block_values);
  // Not a number where the reference overflows: then ours is better.
  if (!(error >= limit)) format.pack(block.parameters, block.codes.data(), out);
}

/// Blocks are searched in groups as large as four that share a search, or one super-block.
void improve_row(const Format& format, const float* row, int64_t columns, const float* importance,
                 const Outer& outer, Search search, std::byte* out) {
  constexpr int64_t kGroup = 8;
  std::array<BlockParameters, kGroup> parameters;
  const int64_t blocks = columns / format.block_values;
  Block block;
  for (int64_t first = 0; first < blocks; first += kGroup) {
    const int64_t count = std::min(kGroup, blocks - first);
    const int64_t at = first * format.block_values;
    for (BlockParameters& each : parameters) each.outer = outer;
    format.fit_blocks(row + at, importance ? importance + at : nullptr, count, parameters.data());
    for (int64_t b = 0; b < count; ++b, out += format.block_bytes) {
      const int64_t start = at + b * format.block_values;
      block.parameters = parameters[static_cast<size_t>(b)];
      if (search == Search::kRobust) {
        fit_robustly(format, row + start, block.parameters);
        round_block(format, row + start, block);
        format.pack(block.parameters, block.codes.data(), out);
        continue;
      }
      improve_block(format, row + start, importance ? importance + start : nullptr, block, out);
    }
  }
}

}  // namespace

void TensorRange::add(const float* values, int64_t values_count) {
  for (int64_t i = 0; i < values_count; ++i) {
    low = std::min(low, values[i]);
    high = std::max(high, values[i]);
    sum_magnitudes += std::abs(static_cast<double>(values[i]));
  }
  count += values_count;
}

void TensorRange::add(const TensorRange& other) {
  low = std::min(low, other.low);
  high = std::max(high, other.high);
  sum_magnitudes += other.sum_magnitudes;
  count += other.count;
}

int64_t row_bytes(const Format& format, int64_t columns) {
  check(columns >= 0 && columns % format.block_values == 0);
  return format.outer_bytes + columns / format.block_values * format.block_bytes;
}

void decode(const Format& format, const std::byte* bytes, int64_t count, float* out) {
  check(count % format.block_values == 0);
  if (!format.has_levels()) return format.decode_floats(bytes, count, out);
  const Outer outer = load_outer(format, bytes);
  bytes += format.outer_bytes;
  for (int64_t i = 0; i < count; i += format.block_values, bytes += format.block_bytes) {
    decode_block(format, outer, bytes, out + i);
  }
}

void decode_rows(const Format& format, const std::byte* bytes, int64_t rows, int64_t columns,
                 float* out) {
  const int64_t stride = row_bytes(format, columns);
  for (int64_t row = 0; row < rows; ++row, bytes += stride, out += columns) {
    decode(format, bytes, columns, out);
  }
}

Outer outer_of_row(const Format& format, const float* values, const float* weights, int64_t columns,
                   const Outer* tensor) {
  Outer outer;
  if (format.sharing == Sharing::kRow) format.fit_row(values, weights, columns, outer);
  if (format.sharing == Sharing::kTensor) {
    check(tensor != nullptr);
    outer = *tensor;
  }
  return outer;
}

void encode_rows(const Format& format, const float* values, int64_t rows, int64_t columns,
                 const float* importance, Search search, std::byte* out, const Outer* outer) {
  const int64_t stride = row_bytes(format, columns);
  check(format.can_encode());
  if (format.encode_floats) return format.encode_floats(values, rows * columns, out);
  if (format.encode_vectors) {
    for (int64_t row = 0; row < rows; ++row)
      format.encode_vectors(values + row * columns, columns, importance, out + row * stride);
    return;
  }
  Outer own;
  if (format.sharing == Sharing::kTensor && outer == nullptr) {
    TensorRange range;
    range.add(values, rows * columns);
    format.fit_tensor(range, own);
    outer = &own;
  }
  for (int64_t row = 0; row < rows; ++row, values += columns, out += stride) {
    if (format.encode_reference) format.encode_reference(values, columns, importance, out);
    if (search == Search::kReference && format.encode_reference) continue;
    const Outer of_row = outer_of_row(format, values, importance, columns, outer);
    store_outer(format, of_row, out);
    improve_row(format, values, columns, importance, of_row, search, out + format.outer_bytes);
  }
}

void pack_row(const Format& format, const BlockParameters* parameters, const uint8_t* codes,
              int64_t columns, std::byte* out) {
  check(columns > 0 && columns % format.block_values == 0);
  store_outer(format, parameters->outer, out);
  out += format.outer_bytes;
  for (int64_t i = 0; i < columns; i += format.block_values, out += format.block_bytes) {
    format.pack(*parameters++, codes + i, out);
  }
}

uint8_t nearest_code(const Format& format, float level) {
  if (is_uniform(format)) {
    const float first = format.levels.front();
    const float low = format.levels[format.lowest_code];
    const float clamped = std::min(format.levels.back(), std::max(low, level));
    return static_cast<uint8_t>(static_cast<int>(round_to_even(clamped) - first));
  }
  // A NaN lies above no bound.
  const float* bounds = format.bounds.data();
  size_t at = 0, left = format.bounds.size();
  while (left > 16) {
    const size_t half = left / 2;
    at = level > bounds[at + half - 1] ? at + half : at;
    left -= half;
  }
  size_t above = at;
  for (size_t i = 0; i < left; ++i) above += level > bounds[at + i];
  return format.ascending[above];
}

void round_to_grid(const Format& format, Grid grid, const float* values, int64_t count,
                   uint8_t* codes) {
  // The inverse of the smallest subnormal scales would be infinite.
  const float inverse = std::abs(grid.scale) > 1e-38f ? 1.0f / grid.scale : 0.0f;
  if (!is_uniform(format)) {
    for (int64_t i = 0; i < count; ++i) {
      codes[i] = nearest_code(format, (values[i] - grid.offset) * inverse);
    }
    return;
  }
  const float first = format.levels.front(), low = format.levels[format.lowest_code];
  const float high = format.levels.back();
  for (int64_t i = 0; i < count; ++i) {
    // In this order NaN becomes the lowest level.
    const float level = std::min(high, std::max(low, (values[i] - grid.offset) * inverse));
    codes[i] = static_cast<uint8_t>(static_cast<int>(round_to_even(level) - first));
  }
}

void values_of_codes(const Format& format, Grid grid, const uint8_t* codes, int64_t count,
                     float* values) {
  if (is_uniform(format)) {
    const auto first = static_cast<int>(format.levels.front());
    for (int64_t i = 0; i < count; ++i) {
      values[i] = grid.scale * static_cast<float>(codes[i] + first) + grid.offset;
    }
    return;
  }
  for (int64_t i = 0; i < count; ++i) {
    values[i] = grid.scale * format.levels[codes[i]] + grid.offset;
  }
}

}  // namespace fewbits
