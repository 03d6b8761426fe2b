#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "formats/format.h"
#include "formats/lanes.h"
#include "formats/levels.h"
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

/// Codes of a block for its parameters.
void pack_nearest(const Format& format, const BlockParameters& parameters, const float* values,
                  std::byte* out) {
  std::array<uint8_t, kMaxBlockValues> codes;
  std::array<Grid, kMaxSubBlocks> grids;
  format.grids(parameters, grids.data());
  const int32_t size = format.sub_block_values;
  for (int32_t s = 0; s < format.sub_blocks(); ++s) {
    round_to_grid(format, grids[static_cast<size_t>(s)], values + s * size, size,
                  codes.data() + s * size);
  }
  format.pack(parameters, codes.data(), out);
}

/// Blocks are searched in groups as large as those that share a search, or one super-block.
void search_row(const Format& format, const float* row, int64_t columns, const float* importance,
                const Outer& outer, Search search, std::byte* out) {
  constexpr int64_t kGroup = 8;
  std::array<BlockParameters, kGroup> parameters;
  const int64_t blocks = columns / format.block_values;
  for (int64_t first = 0; first < blocks; first += kGroup) {
    const int64_t count = std::min(kGroup, blocks - first);
    const int64_t at = first * format.block_values;
    for (BlockParameters& each : parameters) each.outer = outer;
    format.fit_blocks(row + at, importance ? importance + at : nullptr, count, parameters.data());
    for (int64_t b = 0; b < count; ++b, out += format.block_bytes) {
      BlockParameters& found = parameters[static_cast<size_t>(b)];
      const float* values = row + at + b * format.block_values;
      if (search == Search::kRobust) fit_robustly(format, values, found);
      pack_nearest(format, found, values, out);
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
    if (search == Search::kReference && format.encode_reference) {
      format.encode_reference(values, columns, importance, out);
      continue;
    }
    const Outer of_row = outer_of_row(format, values, importance, columns, outer);
    store_outer(format, of_row, out);
    search_row(format, values, columns, importance, of_row, search, out + format.outer_bytes);
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

namespace {

/// Values that are held against a bound at once.
constexpr int64_t kHeldAtOnce = 16;

/// Codes of levels with few bounds between them: every value is held against each. `count`, at most
/// kMaxBlockValues, is a multiple of kHeldAtOnce.
FEWBITS_WIDE_LANES void round_to_few_bounds(const Format& format, Grid grid, float inverse,
                                            const float* values, int64_t count, uint8_t* codes) {
  constexpr int64_t kLanes = kLanesOf<Float8>;
  std::array<int32_t, kMaxBlockValues> below;
  for (int64_t i = 0; i < count; i += kHeldAtOnce) {
    const Float8 first = (load_lanes<Float8>(values + i) - grid.offset) * inverse;
    const Float8 second = (load_lanes<Float8>(values + i + kLanes) - grid.offset) * inverse;
    Int8 below_first{}, below_second{};
    for (const float bound : format.bounds) {
      below_first -= first > bound;  // -1 where true
      below_second -= second > bound;
    }
    std::memcpy(&below[static_cast<size_t>(i)], &below_first, sizeof(below_first));
    std::memcpy(&below[static_cast<size_t>(i + kLanes)], &below_second, sizeof(below_second));
  }
  for (int64_t i = 0; i < count; ++i)
    codes[i] = static_cast<uint8_t>(below[static_cast<size_t>(i)]);
  if (format.ascending.data() == kInOrder<16>.data()) return;
  for (int64_t i = 0; i < count; ++i) codes[i] = format.ascending[codes[i]];
}

void round_to_bounds(const Format& format, Grid grid, float inverse, const float* values,
                     int64_t count, uint8_t* codes) {
  constexpr size_t kFew = 16;
  int64_t i = 0;
  if (format.bounds.size() <= kFew) {
    const int64_t whole = count / kHeldAtOnce * kHeldAtOnce;
    for (int64_t step; i < whole; i += step) {
      step = std::min<int64_t>(whole - i, kMaxBlockValues);
      round_to_few_bounds(format, grid, inverse, values + i, step, codes + i);
    }
  }
  for (; i < count; ++i) codes[i] = nearest_code(format, (values[i] - grid.offset) * inverse);
}

FEWBITS_WIDE_LANES void round_uniformly(const Format& format, Grid grid, float inverse,
                                        const float* values, int64_t count, uint8_t* codes) {
  const float first = format.levels.front(), low = format.levels[format.lowest_code];
  const float high = format.levels.back();
  for (int64_t i = 0; i < count; ++i) {
    // In this order NaN becomes the lowest level.
    const float level = std::min(high, std::max(low, (values[i] - grid.offset) * inverse));
    codes[i] = static_cast<uint8_t>(static_cast<int>(round_to_even(level) - first));
  }
}

}  // namespace

void round_to_grid(const Format& format, Grid grid, const float* values, int64_t count,
                   uint8_t* codes) {
  // The inverse of the smallest subnormal scales would be infinite.
  const float inverse = std::abs(grid.scale) > 1e-38f ? 1.0f / grid.scale : 0.0f;
  const auto round = is_uniform(format) ? round_uniformly : round_to_bounds;
  round(format, grid, inverse, values, count, codes);
}

FEWBITS_WIDE_LANES void values_of_codes(const Format& format, Grid grid, const uint8_t* codes,
                                        int64_t count, float* values) {
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
