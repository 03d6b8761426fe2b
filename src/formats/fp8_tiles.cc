#include "formats/fp8_tiles.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "formats/levels.h"
#include "formats/packed_codes.h"
#include "formats/search_row.h"
#include "formats/small_floats.h"

namespace fewbits {
namespace fp8_tiles {

extern const Format fp8_e4m3_b128;

namespace {

using small_floats::E4M3;

constexpr int kSize = kTileSize;

/// The scale's bits lie in two fields of the parameters, neither of which is wide enough.
float scale_of(const BlockParameters& parameters) {
  return std::bit_cast<float>(uint32_t{parameters.minimum} << 16 | parameters.scale);
}

void set_scale(float scale, BlockParameters& parameters) {
  const auto bits = std::bit_cast<uint32_t>(scale);
  parameters.scale = static_cast<uint16_t>(bits);
  parameters.minimum = static_cast<uint16_t>(bits >> 16);
}

float best_scale(const float* values, const float* weights, int64_t count) {
  TensorRange range;
  range.add(values, count);
  const float largest = std::min(std::max(-range.low, range.high), search::kLargestValue);
  std::array<Outer, 8> firsts;
  for (size_t i = 0; i < firsts.size(); ++i) {
    firsts[i].scale = largest / E4M3::kLargest * (1 - static_cast<float>(i) / 16);
  }
  return search::best_of_row<E4M3::Rounding>(values, weights, count, firsts).scale;
}

void fit(const float* values, const float* weights, int64_t blocks, BlockParameters* parameters) {
  for (int64_t b = 0; b < blocks; ++b) {
    const float* own = weights ? weights + b * kSize : nullptr;
    set_scale(best_scale(values + b * kSize, own, kSize), parameters[b]);
  }
}

void grids(const BlockParameters& parameters, Grid* grids) {
  grids[0] = {scale_of(parameters), kNoOffset};
}

void snap(const Grid* wanted, BlockParameters& parameters) {
  set_scale(wanted[0].scale, parameters);
}

void pack(const BlockParameters& parameters, const uint8_t* codes, std::byte* block) {
  const float scale = scale_of(parameters);
  std::memcpy(block, &scale, sizeof scale);
  pack_codes<8, kSize>(codes, block + sizeof scale);
}

void unpack(const std::byte* block, BlockParameters& parameters, uint8_t* codes) {
  float scale;
  std::memcpy(&scale, block, sizeof scale);
  set_scale(scale, parameters);
  unpack_codes<8, kSize>(block + sizeof scale, codes);
}

}  // namespace

constinit const Format fp8_e4m3_b128 = {
    .name = "fp8_e4m3_b128",
    .gguf_type = -1,
    .block_values = kSize,
    .block_bytes = 4 + kSize,
    .sub_block_values = kSize,
    .levels = E4M3::kLevels,
    .gaussian_error = 6.14e-4,
    .bounds = E4M3::kBounds,
    .ascending = E4M3::kAscending,
    .fit_blocks = fit,
    .grids = grids,
    .snap = snap,
    .pack = pack,
    .unpack = unpack,
};

}  // namespace fp8_tiles

int64_t tile_rows(const Format& format) {
  return &format == &fp8_tiles::fp8_e4m3_b128 ? kTileSize : 1;
}

void encode_tiles(const Format& format, const float* values, int64_t rows, int64_t columns,
                  std::byte* out) {
  check(tile_rows(format) == kTileSize && rows <= kTileSize && columns % kTileSize == 0);
  std::vector<BlockParameters> parameters(static_cast<size_t>(columns / kTileSize));
  std::vector<float> tile(static_cast<size_t>(rows * kTileSize));
  for (size_t b = 0; b < parameters.size(); ++b) {
    for (int64_t row = 0; row < rows; ++row) {
      std::copy_n(values + row * columns + static_cast<int64_t>(b) * kTileSize, kTileSize,
                  tile.begin() + row * kTileSize);
    }
    fp8_tiles::set_scale(fp8_tiles::best_scale(tile.data(), nullptr, std::ssize(tile)),
                         parameters[b]);
  }
  std::vector<uint8_t> codes(static_cast<size_t>(columns));
  for (int64_t row = 0; row < rows; ++row, out += row_bytes(format, columns)) {
    for (size_t b = 0; b < parameters.size(); ++b) {
      const int64_t at = static_cast<int64_t>(b) * kTileSize;
      Grid grid;
      fp8_tiles::grids(parameters[b], &grid);
      round_to_grid(format, grid, values + row * columns + at, kTileSize, codes.data() + at);
    }
    pack_row(format, parameters.data(), codes.data(), columns, out);
  }
}

}  // namespace fewbits
