#include "train/block_scales.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.h"
#include "base/half.h"
#include "engine/parallel.h"

namespace fewbits {
namespace {

constexpr int64_t kRowsPerTask = 16;

/// The coarseness and place of a format's first grid under these parameters.
Grid first_grid(const Format& format, float scale, float minimum) {
  BlockParameters parameters;
  parameters.sub_scale.fill(1);
  parameters.sub_minimum.fill(1);
  parameters.scale = half_from_float(scale);
  parameters.minimum = half_from_float(minimum);
  std::array<Grid, kMaxSubBlocks> grids{};
  format.grids(parameters, grids.data());
  return grids[0];
}

}  // namespace

uint16_t times(uint16_t half, float factor) {
  constexpr float kLargest = 65504;
  return half_from_float(std::clamp(half_to_float(half) * factor, -kLargest, kLargest));
}

bool BlockScales::has_minimum(const Format& format) {
  return first_grid(format, 1, 2).offset != first_grid(format, 1, 1).offset;
}

bool BlockScales::can_tune(const Format& format) {
  if (!format.has_levels() || format.sharing != Sharing::kBlock) return false;
  // A half 1.5 times as large must give grids 1.5 times as coarse.
  const float fine = first_grid(format, 1, 0).scale, coarse = first_grid(format, 1.5f, 0).scale;
  return fine != 0 && coarse == 1.5f * fine && std::isfinite(coarse);
}

int64_t BlockScales::count(const Weight& weight) {
  const Format& format = weight.format();
  return weight.values() / format.block_values * (has_minimum(format) ? 2 : 1);
}

BlockScales::BlockScales(const Weight& weight)
    : weight_(weight),
      blocks_(weight.columns() / weight.format().block_values),
      has_minimum_(has_minimum(weight.format())) {
  check(can_tune(weight.format()) && weight.has_row_bytes());
  log_factors.resize(static_cast<size_t>(count(weight)));
  gradient.resize(log_factors.size());
}

BlockScales::Factors BlockScales::factors(int64_t row, int64_t block) const {
  const auto index = static_cast<size_t>(row * blocks_ + block);
  if (!has_minimum_) return {.scale = std::exp(log_factors[index])};
  return {std::exp(log_factors[2 * index]), std::exp(log_factors[2 * index + 1])};
}

/// What the minima add to the values of each sub-block of a stored row.
void BlockScales::read_offsets(int64_t row, std::vector<float>& offsets) const {
  const Format& format = weight_.format();
  std::vector<std::byte> scratch;
  const auto stored = weight_.row_bytes(row, scratch);
  std::array<uint8_t, kMaxBlockValues> codes;
  std::array<Grid, kMaxSubBlocks> grids;
  offsets.clear();
  for (int64_t block = 0; block < blocks_; ++block) {
    BlockParameters parameters;
    format.unpack(stored.data() + block * format.block_bytes, parameters, codes.data());
    format.grids(parameters, grids.data());
    for (int32_t i = 0; i < format.sub_blocks(); ++i) {
      offsets.push_back(grids[static_cast<size_t>(i)].offset);
    }
  }
}

void BlockScales::values(std::vector<float>& out, ThreadPool& pool) const {
  const int64_t columns = weight_.columns(), size = weight_.format().block_values;
  const int64_t sub_size = weight_.format().sub_block_values;
  out.resize(static_cast<size_t>(weight_.values()));
  parallel_for(pool, weight_.rows(), kRowsPerTask, [&](int64_t row) {
    float* values = out.data() + row * columns;
    weight_.read_row(row, values);
    std::vector<float> offsets;
    if (has_minimum_) read_offsets(row, offsets);
    for (int64_t block = 0; block < blocks_; ++block) {
      const Factors by = factors(row, block);
      for (int64_t i = block * size; i < (block + 1) * size; ++i) {
        values[i] *= by.scale;
        if (!has_minimum_) continue;
        values[i] += offsets[static_cast<size_t>(i / sub_size)] * (by.minimum - by.scale);
      }
    }
  });
}

void BlockScales::add_gradient(std::span<const float> of_values, std::span<const float> values,
                               ThreadPool& pool) {
  const int64_t columns = weight_.columns(), size = weight_.format().block_values;
  const int64_t sub_size = weight_.format().sub_block_values;
  parallel_for(pool, weight_.rows(), kRowsPerTask, [&](int64_t row) {
    const float* slope = of_values.data() + row * columns;
    const float* value = values.data() + row * columns;
    std::vector<float> offsets;
    if (has_minimum_) read_offsets(row, offsets);
    for (int64_t block = 0; block < blocks_; ++block) {
      float whole = 0, of_minimum = 0;
      for (int64_t i = block * size; i < (block + 1) * size; ++i) whole += slope[i] * value[i];
      const auto index = static_cast<size_t>(row * blocks_ + block);
      if (!has_minimum_) {
        gradient[index] += whole;
        continue;
      }
      for (int64_t i = block * size; i < (block + 1) * size; ++i) {
        of_minimum += slope[i] * offsets[static_cast<size_t>(i / sub_size)];
      }
      of_minimum *= factors(row, block).minimum;
      gradient[2 * index] += whole - of_minimum;
      gradient[2 * index + 1] += of_minimum;
    }
  });
}

/// In place.
void BlockScales::scale_row(int64_t row, std::byte* bytes) const {
  const Format& format = weight_.format();
  std::array<uint8_t, kMaxBlockValues> codes;
  for (int64_t block = 0; block < blocks_; ++block) {
    const Factors by = factors(row, block);
    std::byte* place = bytes + block * format.block_bytes;
    BlockParameters parameters;
    format.unpack(place, parameters, codes.data());
    parameters.scale = times(parameters.scale, by.scale);
    parameters.minimum = times(parameters.minimum, by.minimum);
    format.pack(parameters, codes.data(), place);
  }
}

std::vector<std::byte> BlockScales::bytes() const {
  std::vector<std::byte> bytes, scratch;
  bytes.reserve(
      static_cast<size_t>(weight_.rows() * row_bytes(weight_.format(), weight_.columns())));
  for (int64_t i = 0; i < weight_.rows(); ++i) {
    const int64_t row = weight_.row_of_gguf(i);
    const auto stored = weight_.row_bytes(row, scratch);
    const size_t begin = bytes.size();
    bytes.insert(bytes.end(), stored.begin(), stored.end());
    scale_row(row, bytes.data() + begin);
  }
  return bytes;
}

}  // namespace fewbits
