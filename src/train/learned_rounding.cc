#include "train/learned_rounding.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "engine/parallel.h"
#include "train/block_scales.h"

namespace fewbits {
namespace {

constexpr int64_t kRowsPerTask = 16;
constexpr float kMostMove = 0.5f;  // of a place, in steps between levels
// Of a code's reach, half a step to each side. Places at its very end would change codes at the
// first step, whatever the gradient.
constexpr float kReach = 0.45f;

size_t at(int64_t i) {
  return static_cast<size_t>(i);
}

float sign(float x) {
  return static_cast<float>(x > 0) - static_cast<float>(x < 0);
}

}  // namespace

LearnedRounding::LearnedRounding(const Format& format, int64_t columns, std::vector<float> weights,
                                 std::span<const std::byte> bytes, std::vector<int32_t> rows_at)
    : format_(format),
      rows_(std::ssize(weights) / columns),
      columns_(columns),
      blocks_(columns / format.block_values),
      rows_at_(std::move(rows_at)),
      learns_scales_(BlockScales::can_tune(format)),
      has_minimum_(learns_scales_ && BlockScales::has_minimum(format)),
      starts_(std::move(weights)) {
  check(can_learn(format) && std::ssize(bytes) == rows_ * row_bytes(format, columns));
  for (size_t i = format.lowest_code; i < format.levels.size() && format.bounds.empty(); ++i) {
    codes_.push_back(static_cast<uint8_t>(i));
  }
  if (!format.bounds.empty()) codes_.assign(format.ascending.begin(), format.ascending.end());
  for (const uint8_t code : codes_) levels_.push_back(format.levels[code]);
  stored_.resize(at(rows_ * blocks_));
  if (learns_scales_) log_factors_.resize(at(rows_ * blocks_ * (has_minimum_ ? 2 : 1)));
  for (int64_t row = 0; row < rows_; ++row) {
    begin_row(row, bytes.data() + row * row_bytes(format, columns));
  }
  places_ = starts_;
}

/// Weights become places that give the codes that there are.
void LearnedRounding::begin_row(int64_t row, const std::byte* bytes) {
  Outer outer;
  if (format_.outer_bytes >= 4) std::memcpy(&outer.scale, bytes, 4);
  if (format_.outer_bytes >= 8) std::memcpy(&outer.zero, bytes + 4, 4);
  bytes += format_.outer_bytes;
  std::array<uint8_t, kMaxBlockValues> codes;
  std::array<Grid, kMaxSubBlocks> grids;
  for (int64_t block = 0; block < blocks_; ++block, bytes += format_.block_bytes) {
    BlockParameters& parameters = stored_[at(row * blocks_ + block)];
    parameters.outer = outer;
    format_.unpack(bytes, parameters, codes.data());
    format_.grids(parameters, grids.data());
    for (int64_t i = 0; i < format_.block_values; ++i) {
      const Grid grid = grids[at(i / format_.sub_block_values)];
      float& weight = starts_[at(row * columns_ + block * format_.block_values + i)];
      const float level = format_.levels[codes[at(i)]];
      const float here = place_of(level);
      const float wanted = grid.scale == 0 ? here : place_of((weight - grid.offset) / grid.scale);
      weight = std::clamp(wanted, here - kReach, here + kReach);
    }
  }
}

int64_t LearnedRounding::row_at(int64_t row) const {
  return rows_at_.empty() ? row : int64_t{rows_at_[at(row)]};
}

/// Where a level lies among those that there are.
float LearnedRounding::place_of(float level) const {
  if (!std::isfinite(level)) return 0;
  const auto above = std::upper_bound(levels_.begin() + 1, levels_.end() - 1, level);
  const auto below = above - 1;
  return static_cast<float>(below - levels_.begin()) + (level - *below) / (*above - *below);
}

int LearnedRounding::rank(float place) const {
  const float last = static_cast<float>(levels_.size() - 1);
  return static_cast<int>(std::clamp(place + 0.5f, 0.0f, last));
}

BlockParameters LearnedRounding::parameters(int64_t row, int64_t block) const {
  const size_t index = at(row * blocks_ + block);
  BlockParameters parameters = stored_[index];
  if (!learns_scales_) return parameters;
  const float* logs = log_factors_.data() + (has_minimum_ ? 2 * index : index);
  if (logs[0] != 0) parameters.scale = times(parameters.scale, std::exp(logs[0]));
  if (has_minimum_ && logs[1] != 0) {
    parameters.minimum = times(parameters.minimum, std::exp(logs[1]));
  }
  return parameters;
}

void LearnedRounding::values(std::vector<float>& out, ThreadPool& pool) const {
  out.resize(places_.size());
  const int64_t size = format_.sub_block_values;
  parallel_for(pool, rows_, kRowsPerTask, [&](int64_t row) {
    std::array<Grid, kMaxSubBlocks> grids;
    const float* place = places_.data() + row * columns_;
    float* value = out.data() + row_at(row) * columns_;
    for (int64_t block = 0; block < blocks_; ++block) {
      format_.grids(parameters(row, block), grids.data());
      for (int64_t s = 0; s < format_.sub_blocks(); ++s, place += size, value += size) {
        const auto [scale, offset] = grids[at(s)];
        for (int64_t i = 0; i < size; ++i) value[i] = scale * levels_[at(rank(place[i]))] + offset;
      }
    }
  });
}

void LearnedRounding::learn(std::span<const float> of_values, const RoundingRates& rates,
                            ThreadPool& pool) {
  check(of_values.size() == places_.size());
  parallel_for(pool, rows_, kRowsPerTask, [&](int64_t row) {
    const float* slope = of_values.data() + row_at(row) * columns_;
    for (int64_t block = 0; block < blocks_; ++block, slope += format_.block_values) {
      // The scale first: its gradient goes by the codes that there were.
      if (learns_scales_ && rates.scale != 0) learn_scale(row, block, slope, rates.scale);
      learn_places(row, block, slope, rates.place);
    }
  });
}

/// value = factor * (scale * level) + factor' * offset, by their logarithms.
void LearnedRounding::learn_scale(int64_t row, int64_t block, const float* slope, float rate) {
  std::array<Grid, kMaxSubBlocks> grids;
  format_.grids(parameters(row, block), grids.data());
  const float* place = places_.data() + row * columns_ + block * format_.block_values;
  float of_scale = 0, of_minimum = 0;
  for (int64_t i = 0; i < format_.block_values; ++i) {
    const auto [scale, offset] = grids[at(i / format_.sub_block_values)];
    of_scale += slope[i] * scale * levels_[at(rank(place[i]))];
    of_minimum += slope[i] * offset;
  }
  const size_t index = at(row * blocks_ + block);
  float* logs = log_factors_.data() + (has_minimum_ ? 2 * index : index);
  logs[0] -= rate * sign(of_scale);
  if (has_minimum_) logs[1] -= rate * sign(of_minimum);
}

void LearnedRounding::learn_places(int64_t row, int64_t block, const float* slope, float rate) {
  std::array<Grid, kMaxSubBlocks> grids;
  format_.grids(parameters(row, block), grids.data());
  const int64_t first = row * columns_ + block * format_.block_values;
  for (int64_t i = 0; i < format_.block_values; ++i) {
    const float direction = sign(slope[i] * grids[at(i / format_.sub_block_values)].scale);
    const float start = starts_[at(first + i)];
    float& place = places_[at(first + i)];
    place = std::clamp(place - rate * direction, start - kMostMove, start + kMostMove);
  }
}

std::vector<std::byte> LearnedRounding::bytes(ThreadPool& pool) const {
  const int64_t row_size = row_bytes(format_, columns_);
  std::vector<std::byte> bytes(at(rows_ * row_size));
  parallel_for(pool, rows_, kRowsPerTask, [&](int64_t row) {
    std::vector<BlockParameters> blocks;
    std::vector<uint8_t> codes;
    for (int64_t block = 0; block < blocks_; ++block) blocks.push_back(parameters(row, block));
    for (int64_t i = row * columns_; i < (row + 1) * columns_; ++i) {
      codes.push_back(codes_[at(rank(places_[at(i)]))]);
    }
    pack_row(format_, blocks.data(), codes.data(), columns_, bytes.data() + row * row_size);
  });
  return bytes;
}

}  // namespace fewbits
