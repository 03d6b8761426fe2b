#include "formats/search_robust.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace fewbits {
namespace {

constexpr double kNorm = 0.7;
constexpr int kMostSteps = 20;
constexpr double kFirstPenalty = 10, kPenaltyGrowth = 1.01;

using Grids = std::array<Grid, kMaxSubBlocks>;

/// The block as some grids round it.
struct Rounded {
  std::array<uint8_t, kMaxBlockValues> codes;
  std::array<float, kMaxBlockValues> values;
  double loss = 0;
};

void round(const Format& format, const Grids& grids, const float* values, Rounded& out) {
  const int32_t size = format.sub_block_values;
  for (int32_t s = 0; s < format.sub_blocks(); ++s) {
    const Grid grid = grids[static_cast<size_t>(s)];
    round_to_grid(format, grid, values + s * size, size, out.codes.data() + s * size);
    values_of_codes(format, grid, out.codes.data() + s * size, size, out.values.data() + s * size);
  }
  out.loss = 0;
  for (int32_t i = 0; i < format.block_values; ++i) {
    out.loss += std::pow(std::abs(double{values[i]} - out.values[static_cast<size_t>(i)]), kNorm);
  }
}

/// What of an error, in steps of the grid, is an outlier: the proximal operator of |x|^0.7.
double outlier(double error, double penalty) {
  const double size = std::abs(error);
  const double kept = size > 0 ? size - std::pow(size, kNorm - 1) / penalty : 0;
  return std::copysign(std::max(kept, 0.0), error);
}

/// Least squares for the values less their outliers, codes as they are.
Grid fitted(const Format& format, Grid grid, const float* values, const uint8_t* codes, bool offset,
            double penalty) {
  double n = 0, l = 0, ll = 0, t = 0, lt = 0;  // sums over levels l and targets t
  for (int32_t i = 0; i < format.sub_block_values; ++i) {
    const double level = double{format.levels[codes[i]]};
    const double error = double{values[i]} - (double{grid.scale} * level + grid.offset);
    const double target = values[i] - grid.scale * outlier(error / grid.scale, penalty);
    n += 1;
    l += level;
    ll += level * level;
    t += target - (offset ? 0 : grid.offset);
    lt += level * (target - (offset ? 0 : grid.offset));
  }
  const double determinant = n * ll - l * l;
  if (offset && determinant > 1e-6 * n * ll) {
    const double scale = (n * lt - l * t) / determinant;
    return {static_cast<float>(scale), static_cast<float>((t - scale * l) / n)};
  }
  if (offset || !(ll > 0)) return grid;
  return {static_cast<float>(lt / ll), grid.offset};
}

}  // namespace

void fit_robustly(const Format& format, const float* values, BlockParameters& parameters) {
  Grids grids;
  format.grids(parameters, grids.data());
  const auto has_offset = [](const Grid& grid) { return grid.offset != 0; };
  const bool offset = std::any_of(grids.begin(), grids.begin() + format.sub_blocks(), has_offset);
  Rounded rounded;
  round(format, grids, values, rounded);
  double penalty = kFirstPenalty;
  for (int step = 0; step < kMostSteps; ++step, penalty *= kPenaltyGrowth) {
    Grids wanted = grids;
    for (int32_t s = 0; s < format.sub_blocks(); ++s) {
      Grid& grid = wanted[static_cast<size_t>(s)];
      const int32_t first = s * format.sub_block_values;
      if (grid.scale == 0) continue;
      grid = fitted(format, grid, values + first, rounded.codes.data() + first, offset, penalty);
    }
    BlockParameters next = parameters;
    format.snap(wanted.data(), next);
    Grids snapped;
    format.grids(next, snapped.data());
    Rounded tried;
    round(format, snapped, values, tried);
    if (!(tried.loss < rounded.loss)) return;
    parameters = next;
    grids = snapped;
    rounded = tried;
  }
}

}  // namespace fewbits
