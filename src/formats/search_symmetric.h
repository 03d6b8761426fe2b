#pragma once

#include <span>

#include "formats/format.h"
#include "formats/k_blocks.h"
#include "formats/search.h"
#include "formats/sub_scales.h"

// Searches for formats whose grids have a scale and no offset.
namespace fewbits::search {

/// Scales of some sub-blocks: of the tried ones, on which the value of largest magnitude becomes
/// `start` (not nearest, but exactly), the one whose codes leave the least error after least
/// squares; then least squares and rounding in turn.
template <class Rounding, int kSize>
Floats find_scales(const SubBlocks<kSize>& blocks, std::span<const float> starts, int refinements) {
  const Floats unit = inverse_or_zero(largest(blocks.x));
  Floats scale = Floats{}, gain = Floats{};
  const auto consider = [&](Floats inverse) {
    const Moments sums = moments<Rounding, kSize>(blocks, inverse, Floats{});
    const Floats gained = sums.xl * sums.xl / sums.l2;
    const Ints better = gained > gain;
    scale = better ? sums.xl / sums.l2 : scale;
    gain = better ? gained : gain;
  };
  for (const float start : starts) consider(start * unit);
  for (int i = 0; i < refinements; ++i) consider(inverse_or_zero(scale));
  return scale;
}

/// How a super-block with signed sub-scales is searched.
struct SignedScales {
  std::span<const float> starts;
  int refinements;  ///< least squares and rounding of each sub-block alone
  int descents;     ///< of the whole super-block
  bool neighbours;  ///< at last try the neighbours of each sub-scale, with codes of their own
};

template <class Rounding, int kSize, int kLowest, int kHighest>
class SignedScaleSearch {
 public:
  static constexpr int kSubBlocks = k_blocks::kValues / kSize;
  static constexpr int kGroups = kSubBlocks / kLanes;

  SignedScaleSearch(const float* values, const float* weights) {
    for (size_t g = 0; g < kGroups; ++g) {
      const size_t at = g * kLanes * kSize;
      load(values + at, weights ? weights + at : nullptr, groups_[g]);
    }
  }

  void run(const SignedScales& how, BlockParameters& best) const {
    std::array<float, kSubBlocks> wanted;
    for (size_t g = 0; g < kGroups; ++g) {
      store_lanes(find_scales<Rounding, kSize>(groups_[g], how.starts, how.refinements),
                  wanted.data() + g * kLanes);
    }
    best.scale =
        snap_sub_scales<kLowest, kHighest>(wanted.data(), kSubBlocks, best.sub_scale.data());
    for (int i = 0; i < how.descents; ++i) descend(best);
    if (how.neighbours) choose_sub_scales(wanted.data(), best);
  }

 private:
  static Floats sub_scales(const BlockParameters& parameters, size_t group) {
    const int8_t* at = parameters.sub_scale.data() + group * kLanes;
    Floats scales;
    for (int lane = 0; lane < kLanes; ++lane) scales[lane] = static_cast<float>(at[lane]);
    return scales;
  }

  /// The better of each sub-scale and its neighbour on the side of what was wanted.
  void choose_sub_scales(const float* wanted, BlockParameters& parameters) const {
    const float d = half_to_float(parameters.scale);
    for (size_t g = 0; g < kGroups; ++g) {
      const Floats old = sub_scales(parameters, g);
      const Floats less = load_lanes<Floats>(wanted + g * kLanes) - old * d;
      const Floats step = less * d < 0 ? splat<Floats>(-1) : splat<Floats>(1);
      const Floats moved = lane_clamp(old + step, kLowest, kHighest);
      const std::array<Floats, 2> errors =
          errors_on_grids<Rounding, kSize, 2>(groups_[g], {old * d, moved * d});
      store_sub_scales(errors[1] < errors[0] ? moved : old, g, parameters);
    }
  }

  /// Least error for the codes that the parameters give: sub-scales for d, then d for the
  /// sub-scales.
  void descend(BlockParameters& parameters) const {
    const float d = half_to_float(parameters.scale);
    if (d == 0) return;
    Floats xl = Floats{}, l2 = Floats{};
    for (size_t g = 0; g < kGroups; ++g) {
      const Floats inverse = inverse_or_zero(sub_scales(parameters, g) * d);
      const Moments sums = moments<Rounding, kSize>(groups_[g], inverse, Floats{});
      const Floats wanted = sums.xl * inverse_or_zero(sums.l2) * (1 / d);
      const Floats integers = round_to_even(lane_clamp(wanted, kLowest, kHighest));
      store_sub_scales(integers, g, parameters);
      xl += integers * sums.xl;
      l2 += integers * integers * sums.l2;
    }
    const float denominator = total(l2);
    if (!(denominator > 0)) return;
    parameters.scale = finite_half(total(xl) / denominator);
  }

  static float total(Floats lanes) {
    float sum = 0;
    for (int lane = 0; lane < kLanes; ++lane) sum += lanes[lane];
    return sum;
  }

  static void store_sub_scales(Floats integers, size_t group, BlockParameters& parameters) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      parameters.sub_scale[group * kLanes + lane] = static_cast<int8_t>(integers[lane]);
    }
  }

  std::array<SubBlocks<kSize>, kGroups> groups_;
};

/// Format::fit for super-blocks with signed sub-scales.
template <class Rounding, int kSize, int kLowest, int kHighest, const SignedScales& how>
FEWBITS_WIDE_LANES void fit_signed(const float* values, const float* weights, int64_t blocks,
                                   BlockParameters* parameters) {
  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t at = b * k_blocks::kValues;
    parameters[b] = {};
    SignedScaleSearch<Rounding, kSize, kLowest, kHighest>(values + at,
                                                          weights ? weights + at : nullptr)
        .run(how, parameters[b]);
  }
}

}  // namespace fewbits::search
