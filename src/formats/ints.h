#pragma once

#include <algorithm>
#include <array>
#include <cmath>

#include "base/half.h"
#include "formats/format.h"
#include "formats/levels.h"
#include "formats/packed_codes.h"
#include "formats/search_blocks.h"
#include "formats/search_row.h"

// Integers of 2, 3, 4 or 8 bits with one scale for a group of consecutive values of a row, for a
// row (an output channel) or for a tensor:
//
//     symmetric    value = scale * q              q from -2^(bits-1) to 2^(bits-1) - 1
//     narrow       the same without -2^(bits-1), as kernels want it that multiply magnitudes
//     asymmetric   value = scale * (q - zero)     q and zero from 0 to 2^bits - 1
//
// A symmetric scale may be negative: the level that only one side has then serves the value of
// largest magnitude, whatever its sign.
//
//     group      [ half scale | byte zero, where asymmetric | codes ]
//     otherwise  row:  [ float scale | float zero, where asymmetric ][ blocks of 32: codes ]
//
// Codes are q - lowest q, consecutive, lowest bits first; those of 3 bits have their upper bits
// behind. Scales of rows and tensors have 11 significant bits, as halves have, so that products
// with integers are exact and decoding does not depend on the order of operations.
namespace fewbits::ints {

enum class Range { kFull, kNarrow, kZeroPoint };

/// The nearest float with 11 significant bits.
inline float with_half_precision(float value) {
  int exponent = 0;
  const float fraction = std::frexp(value, &exponent);  // magnitude in [1/2, 1)
  return std::ldexp(std::nearbyint(fraction * 2048.0f), exponent - 11);
}

/// So that scale * level stays finite after the scale was rounded.
inline constexpr float kLargestOfTensor = 1e38f;

template <int kBits, Range kRange>
struct Levels {
  static constexpr bool kZero = kRange == Range::kZeroPoint;
  static constexpr int kLowest = kZero ? 0 : -(1 << (kBits - 1));
  static constexpr int kHighest = kLowest + (1 << kBits) - 1;
  static constexpr int kUsed = kLowest + (kRange == Range::kNarrow ? 1 : 0);
  using Rounding = search::UniformRounding<kUsed, kHighest>;
};

// Where the value of largest magnitude lies on the first grids of a search, as a multiple of the
// highest level: few bits gain by cutting it off.
inline constexpr std::array kKept = {1.0f, 0.93f, 0.87f, 0.8f, 0.73f, 0.66f, 0.58f, 0.5f};

template <int kBits, Range kRange>
inline constexpr auto kStarts = [] {
  using L = Levels<kBits, kRange>;
  std::array<float, 2 * kKept.size()> starts{};
  for (size_t i = 0; i < kKept.size(); ++i) {
    const float cut = kBits == 8 ? 1 + (1 - kKept[i]) / 16 : 1 / kKept[i];
    starts[2 * i] = static_cast<float>(L::kUsed) * cut;
    starts[2 * i + 1] = static_cast<float>(L::kHighest) * cut;
  }
  return starts;
}();

template <int kBits, Range kRange>
inline constexpr search::ScaleSearch kSearch = {.starts = kStarts<kBits, kRange>, .refinements = 2};

/// One scale for kValues consecutive values.
template <int kBits, int kValues, Range kRange>
struct Group {
  using L = Levels<kBits, kRange>;
  static constexpr int kSize = kValues;
  static constexpr int kCodes = L::kZero ? 3 : 2;  // where the codes begin
  static constexpr int kBytes = kCodes + kSize * kBits / 8;

  static void fit(const float* values, const float* weights, int64_t blocks,
                  BlockParameters* parameters) {
    if constexpr (L::kZero) {
      search::fit_zero_points<kSize, L::kHighest>(values, weights, blocks, parameters);
    } else {
      search::fit_scale<kSize, typename L::Rounding, kSearch<kBits, kRange>>(values, weights,
                                                                             blocks, parameters);
    }
  }

  static void grids(const BlockParameters& parameters, Grid* grids) {
    const float scale = half_to_float(parameters.scale);
    grids[0] = {scale,
                L::kZero ? -(scale * static_cast<float>(parameters.sub_minimum[0])) : kNoOffset};
  }

  static void snap(const Grid* wanted, BlockParameters& parameters) {
    parameters.scale = finite_half(wanted[0].scale);
    if (!L::kZero) return;
    const float scale = half_to_float(parameters.scale);
    const float zero = scale == 0 ? 0.0f : -wanted[0].offset / scale;
    const float inside = std::min(static_cast<float>(L::kHighest), std::max(0.0f, zero));
    parameters.sub_minimum[0] = static_cast<uint8_t>(round_to_even(inside));
  }

  static void pack(const BlockParameters& parameters, const uint8_t* codes, std::byte* block) {
    store_half(parameters.scale, block);
    if (L::kZero) block[2] = std::byte{parameters.sub_minimum[0]};
    pack_codes<kBits, kSize>(codes, block + kCodes);
  }

  static void unpack(const std::byte* block, BlockParameters& parameters, uint8_t* codes) {
    parameters.scale = load_half(block);
    if (L::kZero) parameters.sub_minimum[0] = std::to_integer<uint8_t>(block[2]);
    unpack_codes<kBits, kSize>(block + kCodes, codes);
  }
};

/// One scale for a row or a tensor; blocks hold codes alone.
template <int kBits, Range kRange>
struct Whole {
  using L = Levels<kBits, kRange>;
  static constexpr int kSize = 32;
  static constexpr int kBytes = kSize * kBits / 8;

  static void fit_row(const float* values, const float* weights, int64_t columns, Outer& outer) {
    TensorRange range;
    range.add(values, columns);
    constexpr size_t kTries = 16;
    constexpr float kMostCut = kBits == 8 ? 0.3f : 0.5f;
    std::array<Outer, kTries> firsts;
    for (size_t i = 0; i < kTries; ++i) {
      const float kept = 1 - kMostCut * static_cast<float>(i) / kTries;
      const float low = std::max(range.low * kept, -search::kLargestValue);
      const float high = std::min(range.high * kept, search::kLargestValue);
      const float largest = -low > high ? low : high;
      firsts[i] = L::kZero ? line(low, high) : Outer{largest / (i % 2 ? L::kHighest : L::kUsed)};
    }
    outer = search::best_of_row<typename L::Rounding>(values, weights, columns, firsts);
    outer.scale = with_half_precision(outer.scale);
  }

  static void fit_tensor(const TensorRange& range, Outer& outer) {
    const float low = std::max(range.low, -kLargestOfTensor);
    const float high = std::min(range.high, kLargestOfTensor);
    outer = L::kZero ? line(low, high) : Outer{(-low > high ? low : high) / L::kUsed};
    outer.scale = with_half_precision(outer.scale);
  }

  static Outer line(float low, float high) {
    const float scale = high / L::kHighest - low / L::kHighest;
    const float zero = scale > 0 ? round_to_even(-low / scale) : 0.0f;
    return {scale, std::min(zero, static_cast<float>(L::kHighest))};
  }

  static void fit(const float*, const float*, int64_t, BlockParameters*) {}

  static void grids(const BlockParameters& parameters, Grid* grids) {
    const Outer& outer = parameters.outer;
    grids[0] = {outer.scale, L::kZero ? -(outer.scale * outer.zero) : kNoOffset};
  }

  static void snap(const Grid*, BlockParameters&) {}

  static void pack(const BlockParameters&, const uint8_t* codes, std::byte* block) {
    pack_codes<kBits, kSize>(codes, block);
  }
  static void unpack(const std::byte* block, BlockParameters&, uint8_t* codes) {
    unpack_codes<kBits, kSize>(block, codes);
  }
};

/// The fields that group, row and tensor formats fill alike.
template <class Layout>
constexpr Format common(std::string_view name, double gaussian_error) {
  using L = typename Layout::L;
  return {
      .name = name,
      .gguf_type = -1,
      .block_values = Layout::kSize,
      .block_bytes = Layout::kBytes,
      .sub_block_values = Layout::kSize,
      .levels = kConsecutive<L::kLowest, L::kHighest>,
      .gaussian_error = gaussian_error,
      .lowest_code = L::kUsed - L::kLowest,
      .fit_blocks = Layout::fit,
      .grids = Layout::grids,
      .snap = Layout::snap,
      .pack = Layout::pack,
      .unpack = Layout::unpack,
  };
}

template <int kBits, int kSize, Range kRange>
constexpr Format group(std::string_view name, double gaussian_error) {
  return common<Group<kBits, kSize, kRange>>(name, gaussian_error);
}

template <int kBits, Range kRange>
constexpr Format channel(std::string_view name, double gaussian_error) {
  Format format = common<Whole<kBits, kRange>>(name, gaussian_error);
  format.sharing = Sharing::kRow;
  format.outer_bytes = kRange == Range::kZeroPoint ? 8 : 4;
  format.fit_row = Whole<kBits, kRange>::fit_row;
  return format;
}

template <int kBits, Range kRange>
constexpr Format tensor(std::string_view name, double gaussian_error) {
  Format format = common<Whole<kBits, kRange>>(name, gaussian_error);
  format.sharing = Sharing::kTensor;
  format.outer_bytes = kRange == Range::kZeroPoint ? 8 : 4;
  format.fit_tensor = Whole<kBits, kRange>::fit_tensor;
  return format;
}

}  // namespace fewbits::ints
