#include <algorithm>
#include <cmath>

#include "formats/format.h"
#include "formats/levels.h"
#include "formats/packed_codes.h"
#include "formats/search_row.h"
#include "formats/small_floats.h"

// Small floats with one scale for a tensor or for a row (an output channel): FP8, FP6, FP4.
//
//     row:  [ float scale ][ blocks of 32: codes, consecutive, lowest bits first ]
//
// The scale of a tensor maps its largest magnitude to the largest value of the format, that of a
// row is searched for within a factor of two below.
namespace fewbits::whole_floats {
namespace {

using namespace small_floats;

// So that scale * level stays finite after the scale was rounded.
constexpr float kLargestOfTensor = 1e38f;
constexpr int32_t kValues = 32;

template <class Float>
constexpr int kBits = std::bit_width(static_cast<unsigned>(Float::kCodes - 1));

template <class Float>
void fit_tensor(const TensorRange& range, Outer& outer) {
  const float largest = std::min(std::max(-range.low, range.high), kLargestOfTensor);
  outer.scale = largest / Float::kLargest;
}

template <class Float>
void fit_row(const float* values, const float* weights, int64_t columns, Outer& outer) {
  TensorRange range;
  range.add(values, columns);
  const float largest = std::min(std::max(-range.low, range.high), search::kLargestValue);
  std::array<Outer, 8> firsts;
  for (size_t i = 0; i < firsts.size(); ++i) {
    firsts[i].scale = largest / Float::kLargest * (1 - static_cast<float>(i) / 16);
  }
  outer = search::best_of_row<typename Float::Rounding>(values, weights, columns, firsts);
}

void fit(const float*, const float*, int64_t, BlockParameters*) {}
void snap(const Grid*, BlockParameters&) {}

void grids(const BlockParameters& parameters, Grid* grids) {
  grids[0] = {parameters.outer.scale, kNoOffset};
}

template <class Float>
void pack(const BlockParameters&, const uint8_t* codes, std::byte* block) {
  pack_codes<kBits<Float>, kValues>(codes, block);
}

template <class Float>
void unpack(const std::byte* block, BlockParameters&, uint8_t* codes) {
  unpack_codes<kBits<Float>, kValues>(block, codes);
}

template <class Float>
constexpr Format tensor(std::string_view name, double gaussian_error) {
  return {
      .name = name,
      .gguf_type = -1,
      .block_values = kValues,
      .block_bytes = kValues * kBits<Float> / 8,
      .sub_block_values = kValues,
      .levels = Float::kLevels,
      .gaussian_error = gaussian_error,
      .bounds = Float::kBounds,
      .ascending = Float::kAscending,
      .sharing = Sharing::kTensor,
      .outer_bytes = 4,
      .fit_tensor = fit_tensor<Float>,
      .fit_blocks = fit,
      .grids = grids,
      .snap = snap,
      .pack = pack<Float>,
      .unpack = unpack<Float>,
  };
}

template <class Float>
constexpr Format channel(std::string_view name, double gaussian_error) {
  Format format = tensor<Float>(name, gaussian_error);
  format.sharing = Sharing::kRow;
  format.fit_row = fit_row<Float>;
  format.fit_tensor = nullptr;
  return format;
}

}  // namespace

extern const Format fp4_e2m1;
extern const Format fp4_e2m1_channel;
extern const Format fp6_e2m3;
extern const Format fp6_e2m3_channel;
extern const Format fp6_e3m2;
extern const Format fp6_e3m2_channel;
extern const Format fp8_e4m3;
extern const Format fp8_e4m3_channel;
extern const Format fp8_e5m2;
extern const Format fp8_e5m2_channel;

constinit const Format fp4_e2m1 = tensor<E2M1>("fp4_e2m1", 2.21e-2);
constinit const Format fp4_e2m1_channel = channel<E2M1>("fp4_e2m1_channel", 1.26e-2);
constinit const Format fp6_e2m3 = tensor<E2M3>("fp6_e2m3", 1.09e-3);
constinit const Format fp6_e2m3_channel = channel<E2M3>("fp6_e2m3_channel", 7.98e-4);
constinit const Format fp6_e3m2 = tensor<E3M2>("fp6_e3m2", 2.80e-3);
constinit const Format fp6_e3m2_channel = channel<E3M2>("fp6_e3m2_channel", 2.73e-3);
constinit const Format fp8_e4m3 = tensor<E4M3>("fp8_e4m3", 7.05e-4);
constinit const Format fp8_e4m3_channel = channel<E4M3>("fp8_e4m3_channel", 6.94e-4);
constinit const Format fp8_e5m2 = tensor<E5M2>("fp8_e5m2", 2.80e-3);
constinit const Format fp8_e5m2_channel = channel<E5M2>("fp8_e5m2_channel", 2.73e-3);

}  // namespace fewbits::whole_floats
