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

uint16_t times(uint16_t half, float factor) {
  constexpr float kLargest = 65504;
  return half_from_float(std::clamp(half_to_float(half) * factor, -kLargest, kLargest));
}

}  // namespace

bool BlockScales::can_tune(const Format& format) {
  if (!format.has_levels() || format.sharing != Sharing::kBlock) return false;
  // A half 1.5 times as large must give grids 1.5 times as coarse.
  BlockParameters parameters;
  parameters.sub_scale.fill(1);
  std::array<Grid, kMaxSubBlocks> fine{}, coarse{};
  parameters.scale = half_from_float(1);
  format.grids(parameters, fine.data());
  parameters.scale = half_from_float(1.5f);
  format.grids(parameters, coarse.data());
  return fine[0].scale != 0 && coarse[0].scale == 1.5f * fine[0].scale &&
         std::isfinite(coarse[0].scale);
}

BlockScales::BlockScales(const Weight& weight) : weight_(weight) {
  check(can_tune(weight.format()) && weight.has_row_bytes());
  log_factors.resize(static_cast<size_t>(weight.rows() * blocks_of_row()));
  gradient.resize(log_factors.size());
}

int64_t BlockScales::blocks_of_row() const {
  return weight_.columns() / weight_.format().block_values;
}

void BlockScales::values(std::vector<float>& out, ThreadPool& pool) const {
  const int64_t columns = weight_.columns(), size = weight_.format().block_values;
  out.resize(static_cast<size_t>(weight_.values()));
  parallel_for(pool, weight_.rows(), kRowsPerTask, [&](int64_t row) {
    float* values = out.data() + row * columns;
    weight_.read_row(row, values);
    for (int64_t block = 0; block < blocks_of_row(); ++block) {
      const float factor =
          std::exp(log_factors[static_cast<size_t>(row * blocks_of_row() + block)]);
      for (int64_t i = 0; i < size; ++i) values[block * size + i] *= factor;
    }
  });
}

void BlockScales::add_gradient(std::span<const float> of_values, std::span<const float> values) {
  const auto size = static_cast<size_t>(weight_.format().block_values);
  for (size_t block = 0; block < gradient.size(); ++block) {
    float sum = 0;
    for (size_t i = block * size; i < (block + 1) * size; ++i) sum += of_values[i] * values[i];
    gradient[block] += sum;
  }
}

/// In place.
void BlockScales::scale_row(int64_t row, std::byte* bytes) const {
  const Format& format = weight_.format();
  std::array<uint8_t, kMaxBlockValues> codes;
  for (int64_t block = 0; block < blocks_of_row(); ++block) {
    const float factor = std::exp(log_factors[static_cast<size_t>(row * blocks_of_row() + block)]);
    std::byte* place = bytes + block * format.block_bytes;
    BlockParameters parameters;
    format.unpack(place, parameters, codes.data());
    parameters.scale = times(parameters.scale, factor);
    parameters.minimum = times(parameters.minimum, factor);
    format.pack(parameters, codes.data(), place);
  }
}

std::vector<std::byte> BlockScales::bytes() const {
  std::vector<std::byte> bytes;
  bytes.reserve(
      static_cast<size_t>(weight_.rows() * row_bytes(weight_.format(), weight_.columns())));
  for (int64_t i = 0; i < weight_.rows(); ++i) {
    const int64_t row = weight_.gguf_rows.empty() ? i : weight_.gguf_rows[static_cast<size_t>(i)];
    const auto stored = weight_.row_bytes(row);
    const size_t begin = bytes.size();
    bytes.insert(bytes.end(), stored.begin(), stored.end());
    scale_row(row, bytes.data() + begin);
  }
  return bytes;
}

}  // namespace fewbits
