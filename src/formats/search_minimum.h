#pragma once

#include <span>

#include "formats/format.h"
#include "formats/k_blocks.h"
#include "formats/search.h"
#include "formats/sub_scales.h"

// Searches for formats whose grids have a scale and an offset; levels from 0 to kLimit.
namespace fewbits::search {

struct Lines {
  Floats scale, offset;
};

template <int kSize>
struct Range {
  Floats low, high;
};

template <int kSize>
Range<kSize> range_of(const std::array<Floats, kSize>& x) {
  Range<kSize> range{x[0], x[0]};
  for (const Floats value : x) {
    range.low = lane_min(value, range.low);
    range.high = lane_max(value, range.high);
  }
  return range;
}

/// The line of least error through given codes, and how much it saves of the error of all zeros.
template <int kSize>
Floats fit_line(const SubBlocks<kSize>& blocks, const Moments& sums, bool offset_below_zero,
                Lines& line) {
  const Floats determinant = blocks.sum_w * sums.l2 - sums.l * sums.l;
  const Ints slopes = determinant > 0.0f;  // not all values have one level
  const Floats inverse = slopes ? 1.0f / determinant : Floats{};
  line.scale = (blocks.sum_w * sums.xl - blocks.sum_wx * sums.l) * inverse;
  line.offset = slopes ? (sums.l2 * blocks.sum_wx - sums.l * sums.xl) * inverse
                       : blocks.sum_wx / blocks.sum_w;
  if (offset_below_zero) {
    const Ints above = line.offset > 0.0f;
    line.scale = above ? sums.xl * inverse_or_zero(sums.l2) : line.scale;
    line.offset = above ? Floats{} : line.offset;
  }
  return line.scale * sums.xl + line.offset * blocks.sum_wx;
}

/// A first grid: the range of the values without `low` steps at its lower end and `high` steps at
/// its upper.
struct Narrowing {
  float low, high;
};

/// Grids of some sub-blocks: of the first grids the one whose codes leave the least error after
/// least squares; then rounding and least squares in turn.
template <int kSize, int kLimit>
Lines find_lines(const SubBlocks<kSize>& blocks, std::span<const Narrowing> starts,
                 bool offset_below_zero, int refinements) {
  using Rounding = UniformRounding<0, kLimit>;
  Range<kSize> range = range_of<kSize>(blocks.x);
  if (offset_below_zero) range.low = lane_min(range.low, Floats{});
  Lines best{Floats{}, range.low};
  Floats gain = splat<Floats>(-INFINITY);
  const auto consider = [&](Floats scale, Floats offset) {
    const Moments sums = moments<Rounding, kSize>(blocks, inverse_or_zero(scale), offset);
    Lines line;
    const Floats gained = fit_line<kSize>(blocks, sums, offset_below_zero, line);
    const Ints better = gained > gain;
    best.scale = better ? line.scale : best.scale;
    best.offset = better ? line.offset : best.offset;
    gain = better ? gained : gain;
  };
  for (const auto [low, high] : starts) {
    const Floats scale = (range.high - range.low) / (static_cast<float>(kLimit) + low + high);
    consider(scale, range.low + low * scale);
  }
  for (int i = 0; i < refinements; ++i) consider(best.scale, best.offset);
  return best;
}

/// How a super-block with unsigned sub-scales and sub-minimums is searched.
struct MinimumScales {
  std::span<const Narrowing> starts;
  int refinements;  ///< least squares and rounding of each sub-block alone
  int descents;     ///< of the whole super-block
  bool neighbours;  ///< at last try the neighbours of each sub-scale, with codes of their own
};

template <int kSize, int kLimit, int kHighest>
class MinimumSearch {
 public:
  static constexpr int kSubBlocks = k_blocks::kValues / kSize;
  static constexpr int kGroups = kSubBlocks / kLanes;
  using Rounding = UniformRounding<0, kLimit>;

  MinimumSearch(const float* values, const float* weights) {
    for (size_t g = 0; g < kGroups; ++g) {
      const size_t at = g * kLanes * kSize;
      load(values + at, weights ? weights + at : nullptr, groups_[g]);
    }
  }

  void run(const MinimumScales& how, BlockParameters& best) const {
    std::array<float, kSubBlocks> scales, minimums;
    for (size_t g = 0; g < kGroups; ++g) {
      const Lines line = find_lines<kSize, kLimit>(groups_[g], how.starts, true, how.refinements);
      store_lanes(lane_max(line.scale, Floats{}), scales.data() + g * kLanes);
      store_lanes(-line.offset, minimums.data() + g * kLanes);
    }
    best.scale = snap_sub_scales<0, kHighest>(scales.data(), kSubBlocks, best.sub_scale.data());
    best.minimum =
        snap_sub_scales<0, kHighest>(minimums.data(), kSubBlocks, best.sub_minimum.data());
    for (int i = 0; i < how.descents; ++i) descend(best);
    if (how.neighbours) choose_integers(best);
  }

 private:
  struct Integers {
    Floats scale, minimum;
  };

  static Integers integers_of(const BlockParameters& parameters, size_t group) {
    Integers integers;
    for (size_t lane = 0; lane < kLanes; ++lane) {
      integers.scale[lane] = static_cast<float>(parameters.sub_scale[group * kLanes + lane]);
      integers.minimum[lane] = static_cast<float>(parameters.sub_minimum[group * kLanes + lane]);
    }
    return integers;
  }

  /// The sub-minimum of least error for the codes that a grid gives.
  static Floats best_minimum(const SubBlocks<kSize>& blocks, Floats scale, Floats offset,
                             float inverse_dmin) {
    const Moments sums = moments<Rounding, kSize>(blocks, inverse_or_zero(scale), offset);
    const Floats minimum = (scale * sums.l - blocks.sum_wx) / blocks.sum_w;
    return round_to_even(lane_clamp(minimum * inverse_dmin, 0, kHighest));
  }

  /// For each sub-scale and its two neighbours the best sub-minimum; the best of these pairs.
  void choose_integers(BlockParameters& parameters) const {
    const float d = half_to_float(parameters.scale);
    const float dmin = half_to_float(parameters.minimum);
    const float inverse_dmin = dmin > 0 ? 1 / dmin : 0.0f;
    for (size_t g = 0; g < kGroups; ++g) {
      const Integers old = integers_of(parameters, g);
      Integers chosen = old;
      Floats least =
          error_on_grid<Rounding, kSize>(groups_[g], old.scale * d, -(old.minimum * dmin));
      for (const float step : {-1.0f, 0.0f, 1.0f}) {
        const Floats moved = lane_clamp(old.scale + step, 0, kHighest);
        const Floats minimum =
            best_minimum(groups_[g], moved * d, -(old.minimum * dmin), inverse_dmin);
        const Floats error =
            error_on_grid<Rounding, kSize>(groups_[g], moved * d, -(minimum * dmin));
        const Ints better = error < least;
        chosen.scale = better ? moved : chosen.scale;
        chosen.minimum = better ? minimum : chosen.minimum;
        least = better ? error : least;
      }
      store_integers(chosen, g, parameters);
    }
  }

  using AllMoments = std::array<Moments, kGroups>;

  /// Least error for the codes that the parameters give: integers for d and dmin, then these for
  /// the integers.
  void descend(BlockParameters& parameters) const {
    AllMoments sums;
    const float d = half_to_float(parameters.scale);
    const float dmin = half_to_float(parameters.minimum);
    for (size_t g = 0; g < kGroups; ++g) {
      const Integers n = integers_of(parameters, g);
      sums[g] =
          moments<Rounding, kSize>(groups_[g], inverse_or_zero(n.scale * d), -(n.minimum * dmin));
    }
    for (int i = 0; i < 2; ++i) {
      round_integers(sums, parameters);
      refit(sums, parameters);
    }
  }

  /// The best integers for fixed codes: three sub-scales next to the least squares solution, each
  /// with its minimum.
  void round_integers(const AllMoments& all, BlockParameters& parameters) const {
    const float d = half_to_float(parameters.scale);
    const float dmin = half_to_float(parameters.minimum);
    const float inverse_d = d > 0 ? 1 / d : 0.0f;
    const float inverse_dmin = dmin > 0 ? 1 / dmin : 0.0f;
    for (size_t g = 0; g < kGroups; ++g) {
      const Moments& sums = all[g];
      const SubBlocks<kSize>& blocks = groups_[g];
      Lines line;
      fit_line<kSize>(blocks, sums, true, line);
      const Floats middle = round_to_even(lane_clamp(line.scale * inverse_d, 0, kHighest));
      Integers chosen = integers_of(parameters, g);
      Floats least = splat<Floats>(INFINITY);
      for (const float step : {0.0f, -1.0f, 1.0f}) {
        const Floats n = lane_clamp(middle + step, 0, kHighest);
        const Floats scale = n * d;
        const Floats wanted = (scale * sums.l - blocks.sum_wx) / blocks.sum_w;
        const Floats m = round_to_even(lane_clamp(wanted * inverse_dmin, 0, kHighest));
        const Floats minimum = m * dmin;
        const Floats error = scale * (scale * sums.l2 - 2.0f * (minimum * sums.l + sums.xl)) +
                             minimum * (minimum * blocks.sum_w + 2.0f * blocks.sum_wx);
        const Ints better = error < least;
        chosen.scale = better ? n : chosen.scale;
        chosen.minimum = better ? m : chosen.minimum;
        least = better ? error : least;
      }
      store_integers(chosen, g, parameters);
    }
  }

  static void store_integers(const Integers& integers, size_t group, BlockParameters& parameters) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      parameters.sub_scale[group * kLanes + lane] = static_cast<int8_t>(integers.scale[lane]);
      parameters.sub_minimum[group * kLanes + lane] = static_cast<uint8_t>(integers.minimum[lane]);
    }
  }

  /// The d and dmin of least error for fixed codes and integers.
  void refit(const AllMoments& all, BlockParameters& parameters) const {
    Floats aa = Floats{}, ab = Floats{}, bb = Floats{}, ax = Floats{}, bx = Floats{};
    for (size_t g = 0; g < kGroups; ++g) {
      const Integers n = integers_of(parameters, g);
      aa += n.scale * n.scale * all[g].l2;
      ab += n.scale * n.minimum * all[g].l;
      bb += n.minimum * n.minimum * groups_[g].sum_w;
      ax += n.scale * all[g].xl;
      bx += n.minimum * groups_[g].sum_wx;
    }
    solve({total(aa), total(ab), total(bb), total(ax), total(bx)}, parameters);
  }

  static double total(Floats lanes) {
    double sum = 0;
    for (int lane = 0; lane < kLanes; ++lane) sum += static_cast<double>(lanes[lane]);
    return sum;
  }

  /// Weighted products of a = sub-scale * level, b = sub-minimum and the values.
  struct Products {
    double aa, ab, bb, ax, bx;
  };

  static uint16_t unsigned_half(double value) {
    return finite_half(static_cast<float>(std::max(value, 0.0)));
  }

  /// Least squares of x = d a - dmin b.
  static void solve(const Products& sums, BlockParameters& parameters) {
    const auto [aa, ab, bb, ax, bx] = sums;
    const double determinant = aa * bb - ab * ab;
    if (determinant > 1e-12 * aa * bb) {
      parameters.scale = unsigned_half((ax * bb - bx * ab) / determinant);
      parameters.minimum = unsigned_half((ax * ab - bx * aa) / determinant);
    } else if (aa > 0) {
      parameters.scale = unsigned_half(ax / aa);
    }
  }

  std::array<SubBlocks<kSize>, kGroups> groups_;
};

/// Format::fit for super-blocks with sub-scales and sub-minimums.
template <int kSize, int kLimit, int kHighest, const MinimumScales& how>
FEWBITS_WIDE_LANES void fit_with_minimum(const float* values, const float* weights, int64_t blocks,
                                         BlockParameters* parameters) {
  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t at = b * k_blocks::kValues;
    parameters[b] = {};
    MinimumSearch<kSize, kLimit, kHighest>(values + at, weights ? weights + at : nullptr)
        .run(how, parameters[b]);
  }
}

}  // namespace fewbits::search
