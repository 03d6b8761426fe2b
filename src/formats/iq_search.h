#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "base/half.h"

// The search for the codes of one block of a format whose codes are vectors (iq.cc): 256 values in
// sub-blocks that share a scale,
//
//     value = sign * d * kUnit * (2 * scale code + 1) * (level + shift)
//
// with the levels of 8 or 4 consecutive values from an entry of a code book. Minimizes
// sum weight * error^2:
//
//   1. each sub-block alone: some scales, the nearest entries, least squares for the scale, again;
//   2. the d whose multiples come nearest to the sub-blocks' scales, by the error's curvature;
//   3. each sub-block's scale code and entries under that d as stored, neighbouring codes tried;
//   4. least squares for d over the whole block, and 3 again, as long as it helps.
//
// The nearest entry is exact and needs no list of neighbours: an entry costs what its four quarters
// cost, each from a table of the few quarters there are. Entries lie sorted by their first two
// quarters; these are passed over where they cost as much, with the cheapest others there could be,
// as the best entry so far.
namespace fewbits::iq {

inline constexpr int kBlockValues = 256;

/// Which values are shifted alike by 1/8, up or down.
enum class Shift { kNone, kSubBlock, kVector };

/// A code book of one format, for whoever searches it. `Kind` has the format's constants.
template <class Kind>
class Book {
 public:
  static constexpr int kVector = Kind::kVector;
  static constexpr int kLevels = static_cast<int>(Kind::kLevel.size());
  /// What each level of each value costs.
  using Costs = std::array<std::array<float, kLevels>, kVector>;

  explicit Book(std::span<const uint16_t> grid);

  /// The entry of least cost; `likely` is looked at first, which saves time and changes nothing but
  /// the choice between equals.
  int nearest(const Costs& costs, int likely, float& cost) const;

  const std::array<float, kVector>& levels(int entry) const {
    return levels_[static_cast<size_t>(entry)];
  }
  float root_mean_square() const { return root_mean_square_; }

 private:
  static constexpr int kInQuarter = kVector / 4;  ///< values
  static constexpr size_t kQuarters = kInQuarter == 2 ? kLevels * kLevels : kLevels;
  using QuarterCosts = std::array<float, kQuarters>;
  struct Last {
    uint8_t third, fourth;
    uint16_t entry;
  };

  static void add_levels(const std::array<float, kLevels>* costs, QuarterCosts& quarter);

  std::vector<std::array<float, kVector>> levels_;
  std::vector<std::array<uint8_t, 4>> quarters_;              ///< of each entry
  std::array<uint16_t, kQuarters * kQuarters + 1> starts_{};  ///< into lasts_
  std::vector<Last> lasts_;  ///< sorted by second quarter, then by first
  float root_mean_square_ = 0;
};

template <class Kind>
Book<Kind>::Book(std::span<const uint16_t> grid) {
  constexpr int kBits = kVector == 8 ? 2 : 3;
  double squares = 0;
  for (const uint16_t packed : grid) {
    std::array<uint8_t, 4> quarters{};
    std::array<float, kVector> levels;
    for (int i = kVector; i-- > 0;) {
      const auto code = static_cast<size_t>(packed >> (kBits * i) & ((1 << kBits) - 1));
      uint8_t& quarter = quarters[static_cast<size_t>(i / kInQuarter)];
      quarter = static_cast<uint8_t>(quarter * kLevels + static_cast<int>(code));
      levels[static_cast<size_t>(i)] = Kind::kLevel[code];
      squares += static_cast<double>(Kind::kLevel[code] * Kind::kLevel[code]);
    }
    levels_.push_back(levels);
    quarters_.push_back(quarters);
  }
  const auto values = static_cast<double>(grid.size() * kVector);
  root_mean_square_ = static_cast<float>(std::sqrt(squares / values));
  for (size_t first = 0; first + 1 < starts_.size(); ++first) {
    for (size_t entry = 0; entry < grid.size(); ++entry) {
      const auto [a, b, c, d] = quarters_[entry];
      if (b * kQuarters + a == first) lasts_.push_back({c, d, static_cast<uint16_t>(entry)});
    }
    starts_[first + 1] = static_cast<uint16_t>(lasts_.size());
  }
}

/// The cost of every quarter; its first value is the lowest digit.
template <class Kind>
void Book<Kind>::add_levels(const std::array<float, kLevels>* costs, QuarterCosts& quarter) {
  if constexpr (kInQuarter == 1) {
    quarter = costs[0];
  } else {
    for (size_t i = 0; i < kQuarters; ++i)
      quarter[i] = costs[0][i % kLevels] + costs[1][i / kLevels];
  }
}

template <class Kind>
int Book<Kind>::nearest(const Costs& costs, int likely, float& cost) const {
  std::array<QuarterCosts, 4> q;
  for (size_t i = 0; i < 4; ++i) add_levels(costs.data() + i * kInQuarter, q[i]);
  const float least_first = *std::min_element(q[0].begin(), q[0].end());
  const float least_last =
      *std::min_element(q[2].begin(), q[2].end()) + *std::min_element(q[3].begin(), q[3].end());
  const auto [a, b, c, d] = quarters_[static_cast<size_t>(likely)];
  int best = likely;
  cost = (q[1][b] + q[0][a]) + (q[2][c] + q[3][d]);
  for (size_t second = 0; second < kQuarters; ++second) {
    if (!((q[1][second] + least_first) + least_last < cost)) continue;
    for (size_t first = 0; first < kQuarters; ++first) {
      const float begun = q[1][second] + q[0][first];
      if (!(begun + least_last < cost)) continue;
      const size_t list = second * kQuarters + first;
      for (size_t at = starts_[list]; at < starts_[list + 1]; ++at) {
        const float now = begun + (q[2][lasts_[at].third] + q[3][lasts_[at].fourth]);
        if (!(now < cost)) continue;
        cost = now;
        best = lasts_[at].entry;
      }
    }
  }
  return best;
}

/// What the search gives; kinds use as much of the arrays as they have vectors and sub-blocks.
struct BlockCode {
  uint16_t scale = 0;                    ///< d, a half
  std::array<uint8_t, 16> scale_code{};  ///< of each sub-block
  std::array<uint16_t, 64> entry{};      ///< of each vector
  std::array<bool, 64> down{};           ///< whether the vector's shift is -1/8
  std::array<uint8_t, 32> signs{};       ///< of 8 values, a bit set means minus
};

/// The search in one block; a new object for each.
template <class Kind>
class BlockSearch {
 public:
  /// Null weights are all the same.
  BlockSearch(const Book<Kind>& book, const float* values, const float* weights);
  BlockCode run();

 private:
  static constexpr int kVector = Kind::kVector;
  static constexpr int kVectors = Kind::kSubBlock / kVector;  ///< in a sub-block
  static constexpr int kSubBlocks = kBlockValues / Kind::kSubBlock;
  static constexpr float kShiftBy = 0.125f;
  static constexpr int kTrials = 2;  ///< of a sub-block alone, from each first scale
  using Costs = typename Book<Kind>::Costs;

  struct SubBlock {
    float error = std::numeric_limits<float>::infinity();
    float scale = 0;  ///< d * kUnit * (2 * code + 1)
    int code = 0;
    std::array<uint16_t, kVectors> entry{};
    std::array<bool, kVectors> down{};
  };
  struct Moments {
    float xq = 0, qq = 0;  ///< of weighted values and levels
  };
  struct State {
    float d = 0;
    uint16_t half = 0;
    double error = std::numeric_limits<double>::infinity();
    std::array<SubBlock, kSubBlocks> parts;
  };

  void take_signs();
  void even_signs(size_t eight);
  SubBlock at_scale(int part, float scale, const SubBlock& likely) const;
  float vector_at_scale(int vector, float scale, float shift, int likely, int& entry) const;
  Moments moments(int part, const SubBlock& found) const;
  SubBlock search_alone(int part) const;
  void search_from(int part, float scale, SubBlock& best) const;
  float fitting_d(const std::array<SubBlock, kSubBlocks>& parts) const;
  State with_d(float d, const std::array<SubBlock, kSubBlocks>& parts) const;
  float refit_d(const State& state) const;
  BlockCode code_of(const State& state) const;

  const Book<Kind>& book_;
  std::array<float, kBlockValues> x_;  ///< magnitudes where the kind has signs
  std::array<float, kBlockValues> w_;
  std::array<uint8_t, 32> signs_{};
  int exponent_ = 0;  ///< values are 2^exponent_ times x_, whose largest is in [0.5, 1)
  bool empty_ = false;
};

/// Keeps products of the largest and the smallest floats inside float's range.
template <class Kind>
BlockSearch<Kind>::BlockSearch(const Book<Kind>& book, const float* values, const float* weights)
    : book_(book) {
  float largest = 0, heaviest = 0;
  for (int i = 0; i < kBlockValues; ++i) {
    largest = std::max(largest, std::abs(values[i]));
    heaviest = std::max(heaviest, weights ? weights[i] : 1.0f);
  }
  empty_ = !(largest > 0) || !std::isfinite(largest);
  if (empty_) return;
  int weight_exponent = 0;
  std::frexp(largest, &exponent_);
  if (std::isfinite(heaviest)) std::frexp(heaviest, &weight_exponent);
  // Values without weight still decide where the others leave a choice.
  constexpr float kLeastWeight = 1e-8f;
  for (int i = 0; i < kBlockValues; ++i) {
    const auto at = static_cast<size_t>(i);
    x_[at] = std::ldexp(values[i], -exponent_);
    w_[at] = weights ? std::ldexp(weights[i], -weight_exponent) + kLeastWeight : 1.0f;
  }
  if constexpr (Kind::kShift == Shift::kNone) take_signs();
}

template <class Kind>
void BlockSearch<Kind>::take_signs() {
  for (size_t i = 0; i < kBlockValues; ++i) {
    if (!(x_[i] < 0)) continue;
    signs_[i / 8] = static_cast<uint8_t>(signs_[i / 8] | 1u << (i % 8));
    x_[i] = -x_[i];
  }
  if constexpr (Kind::kEvenSigns)
    for (size_t eight = 0; eight < signs_.size(); ++eight) even_signs(eight);
}

/// Where the number of minus signs is odd, one value gets the wrong one: that with the smallest
/// weight * magnitude, for the error grows by 4 * weight * magnitude * (scale * level).
template <class Kind>
void BlockSearch<Kind>::even_signs(size_t eight) {
  if (std::popcount(signs_[eight]) % 2 == 0) return;
  size_t least = 8 * eight;
  for (size_t i = 8 * eight; i < 8 * eight + 8; ++i)
    if (w_[i] * x_[i] < w_[least] * x_[least]) least = i;
  signs_[eight] = static_cast<uint8_t>(signs_[eight] ^ 1u << (least % 8));
  x_[least] = -x_[least];
}

template <class Kind>
float BlockSearch<Kind>::vector_at_scale(int vector, float scale, float shift, int likely,
                                         int& entry) const {
  const float* x = x_.data() + vector * kVector;
  const float* w = w_.data() + vector * kVector;
  Costs costs;
  for (size_t i = 0; i < kVector; ++i) {
    for (size_t level = 0; level < Kind::kLevel.size(); ++level) {
      const float error = x[i] - scale * (Kind::kLevel[level] + shift);
      costs[i][level] = w[i] * (error * error);
    }
  }
  float cost;
  entry = book_.nearest(costs, likely, cost);
  return cost;
}

/// The best entries, and shifts, under a scale.
template <class Kind>
typename BlockSearch<Kind>::SubBlock BlockSearch<Kind>::at_scale(int part, float scale,
                                                                 const SubBlock& likely) const {
  SubBlock up, down;
  up.error = down.error = 0;
  up.scale = down.scale = scale;
  for (int v = 0; v < kVectors; ++v) {
    const auto at = static_cast<size_t>(v);
    const float shift = Kind::kShift == Shift::kNone ? 0 : kShiftBy;
    const int vector = part * kVectors + v;
    int entry;
    float cost = vector_at_scale(vector, scale, shift, likely.entry[at], entry);
    up.entry[at] = static_cast<uint16_t>(entry);
    if constexpr (Kind::kShift != Shift::kNone) {
      const float cost_down = vector_at_scale(vector, scale, -shift, likely.entry[at], entry);
      down.entry[at] = static_cast<uint16_t>(entry);
      down.down[at] = true;
      down.error += cost_down;
      if (Kind::kShift == Shift::kVector && cost_down < cost) {
        up.entry[at] = down.entry[at];
        up.down[at] = true;
        cost = cost_down;
      }
    }
    up.error += cost;
  }
  return Kind::kShift == Shift::kSubBlock && down.error < up.error ? down : up;
}

template <class Kind>
typename BlockSearch<Kind>::Moments BlockSearch<Kind>::moments(int part,
                                                               const SubBlock& found) const {
  Moments sums;
  for (int v = 0; v < kVectors; ++v) {
    const auto at = static_cast<size_t>(v);
    const auto& levels = book_.levels(found.entry[at]);
    const float shift = Kind::kShift == Shift::kNone ? 0 : found.down[at] ? -kShiftBy : kShiftBy;
    const size_t first = static_cast<size_t>(part * Kind::kSubBlock + v * kVector);
    for (size_t i = 0; i < kVector; ++i) {
      const float level = levels[i] + shift;
      sums.xq += w_[first + i] * x_[first + i] * level;
      sums.qq += w_[first + i] * level * level;
    }
  }
  return sums;
}

/// Entries and least squares for the scale in turn.
template <class Kind>
void BlockSearch<Kind>::search_from(int part, float scale, SubBlock& best) const {
  for (int i = 0; i < kTrials; ++i) {
    SubBlock now = at_scale(part, scale, best);
    const Moments sums = moments(part, now);
    if (!(sums.xq > 0)) break;
    scale = sums.xq / sums.qq;
    now.error -= sums.qq * (now.scale - scale) * (now.scale - scale);
    now.scale = scale;
    if (now.error < best.error) best = now;
  }
}

/// The best scale of a sub-block, as if any could be stored.
template <class Kind>
typename BlockSearch<Kind>::SubBlock BlockSearch<Kind>::search_alone(int part) const {
  float wxx = 0, w = 0, largest = 0;
  for (size_t i = 0; i < Kind::kSubBlock; ++i) {
    const size_t at = static_cast<size_t>(part * Kind::kSubBlock) + i;
    wxx += w_[at] * x_[at] * x_[at];
    w += w_[at];
    largest = std::max(largest, std::abs(x_[at]));
  }
  const float mean = std::sqrt(wxx / w);
  SubBlock best;
  if (!(mean > 0)) return best = {.error = 0};
  for (const float start : Kind::kStarts)
    search_from(part, start * mean / book_.root_mean_square(), best);
  // Every book has an entry of lowest levels only.
  constexpr float kFlat = 1.3f;
  if (Kind::kShift == Shift::kNone && largest < kFlat * mean)
    search_from(part, mean / Kind::kLevel.front(), best);
  return best;
}

/// The d under which storable scales lose least, each error being a parabola around its best scale.
template <class Kind>
float BlockSearch<Kind>::fitting_d(const std::array<SubBlock, kSubBlocks>& parts) const {
  float largest = 0;
  std::array<float, kSubBlocks> curvature{};
  for (size_t p = 0; p < kSubBlocks; ++p) {
    largest = std::max(largest, parts[p].scale);
    curvature[p] = moments(static_cast<int>(p), parts[p]).qq;
  }
  float best_d = 0, least = std::numeric_limits<float>::infinity();
  constexpr int kTop = 2 * Kind::kSteps - 1;
  for (float top = kTop + 2.0f; top >= kTop * 0.6f; top -= 0.25f) {
    const float unit = largest / top;
    float loss = 0;
    for (size_t p = 0; p < kSubBlocks; ++p) {
      const float code = std::clamp(std::round((parts[p].scale / unit - 1) / 2), 0.0f,
                                    static_cast<float>(Kind::kSteps - 1));
      const float off = parts[p].scale - unit * (2 * code + 1);
      loss += curvature[p] * off * off;
    }
    if (loss < least) {
      least = loss;
      best_d = unit / Kind::kUnit;
    }
  }
  return best_d;
}

/// Scale codes and entries under d, which becomes what can be stored.
template <class Kind>
typename BlockSearch<Kind>::State BlockSearch<Kind>::with_d(
    float d, const std::array<SubBlock, kSubBlocks>& parts) const {
  constexpr float kLargestHalf = 65504;
  State state;
  state.half = half_from_float(std::min(kLargestHalf, std::ldexp(d, exponent_)));
  state.d = std::ldexp(half_to_float(state.half), -exponent_);
  state.error = 0;
  const float unit = state.d * Kind::kUnit;
  for (size_t p = 0; p < kSubBlocks; ++p) {
    const float wanted = unit > 0 ? (parts[p].scale / unit - 1) / 2 : 0.0f;
    const int middle = static_cast<int>(std::clamp(std::round(wanted), 0.0f, Kind::kSteps - 1.0f));
    const int first = std::max(0, middle - 1);
    const int last = std::min(Kind::kSteps - 1, middle + 1);
    for (int code = first; code <= last; ++code) {
      SubBlock now =
          at_scale(static_cast<int>(p), unit * static_cast<float>(2 * code + 1), parts[p]);
      now.code = code;
      if (now.error < state.parts[p].error) state.parts[p] = now;
    }
    state.error += static_cast<double>(state.parts[p].error);
  }
  return state;
}

template <class Kind>
float BlockSearch<Kind>::refit_d(const State& state) const {
  float xq = 0, qq = 0;
  for (size_t p = 0; p < kSubBlocks; ++p) {
    const Moments sums = moments(static_cast<int>(p), state.parts[p]);
    const float factor = Kind::kUnit * static_cast<float>(2 * state.parts[p].code + 1);
    xq += factor * sums.xq;
    qq += factor * factor * sums.qq;
  }
  return xq > 0 ? xq / qq : state.d;
}

template <class Kind>
BlockCode BlockSearch<Kind>::code_of(const State& state) const {
  BlockCode code{.scale = state.half, .signs = signs_};
  for (size_t p = 0; p < kSubBlocks; ++p) {
    code.scale_code[p] = static_cast<uint8_t>(state.parts[p].code);
    for (size_t v = 0; v < kVectors; ++v) {
      code.entry[p * kVectors + v] = state.parts[p].entry[v];
      code.down[p * kVectors + v] = state.parts[p].down[v];
    }
  }
  return code;
}

template <class Kind>
BlockCode BlockSearch<Kind>::run() {
  if (empty_) return {};
  std::array<SubBlock, kSubBlocks> alone;
  for (size_t p = 0; p < kSubBlocks; ++p) alone[p] = search_alone(static_cast<int>(p));
  State best = with_d(fitting_d(alone), alone);
  for (int i = 0; i < Kind::kRounds; ++i) {
    const State next = with_d(refit_d(best), best.parts);
    if (!(next.error < best.error)) break;
    best = next;
  }
  return code_of(best);
}

}  // namespace fewbits::iq
