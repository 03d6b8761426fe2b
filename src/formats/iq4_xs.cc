#include <algorithm>
#include <cmath>

#include "formats/iq4_levels.h"
#include "formats/k_blocks.h"
#include "formats/reference.h"
#include "formats/reference_iq4.h"
#include "formats/search_symmetric.h"

// 256 values, 4 bits each, in 8 sub-blocks of 32 that have a signed scale of 6 bits; the levels of
// IQ4_NL.
//
//     byte 0   2                       4                      8                               136
//          [ d | top 2 bits of scales | low 4 bits of scales | 8 x 16 bytes of codes ]
//
// Byte j of a sub-block holds value j (low) and j + 16 (high). Scales are stored plus 32, in order,
// lowest bits first.
namespace fewbits::iq4_xs {
extern const Format format;
namespace {

constexpr int kSubBlocks = 8;
constexpr int kScalesHigh = 2;
constexpr int kScalesLow = 4;
constexpr int kCodes = 8;
constexpr int kBias = 32;

void snap(const Grid* wanted, BlockParameters& parameters) {
  snap_signed<-32, 31>(wanted, kSubBlocks, parameters);
}

void pack(const BlockParameters& parameters, const uint8_t* codes, std::byte* block) {
  std::array<uint8_t, kSubBlocks> scales;
  for (size_t s = 0; s < kSubBlocks; ++s) {
    scales[s] = static_cast<uint8_t>(parameters.sub_scale[s] + kBias);
  }
  store_half(parameters.scale, block);
  pack_plane<2, 1>(scales.data(), kSubBlocks, 4, block + kScalesHigh);
  pack_plane<4, 1>(scales.data(), kSubBlocks, 0, block + kScalesLow);
  pack_plane<4, 16>(codes, k_blocks::kValues, 0, block + kCodes);
}

void unpack(const std::byte* block, BlockParameters& parameters, uint8_t* codes) {
  std::array<uint8_t, kSubBlocks> scales;
  unpack_plane<4, 1>(block + kScalesLow, kSubBlocks, 0, scales.data());
  unpack_plane<2, 1>(block + kScalesHigh, kSubBlocks, 4, scales.data());
  parameters = {};
  parameters.scale = load_half(block);
  for (size_t s = 0; s < kSubBlocks; ++s) {
    parameters.sub_scale[s] = static_cast<int8_t>(scales[s] - kBias);
  }
  unpack_plane<4, 16>(block + kCodes, k_blocks::kValues, 0, codes);
}

using Scales = std::array<float, kSubBlocks>;

Scales search_reference(const float* values, const float* importance) {
  std::array<float, k_blocks::kValues> weights;
  const float spread =
      reference::sum_of_squares(values, k_blocks::kValues) * (2.0f / k_blocks::kValues);
  reference::iq4_weights(values, importance, k_blocks::kValues, spread, weights.data());
  Scales scales;
  for (size_t s = 0; s < kSubBlocks; s += kLanesOf<Float4>) {
    reference::search_iq4(values + 32 * s, weights.data() + 32 * s, scales.data() + s);
  }
  return scales;
}

// Sub-scales and codes come from d as it was before it became a half.
void encode_reference_block(const float* values, const float* importance, std::byte* block) {
  const Scales scales = search_reference(values, importance);
  const float largest = *std::max_element(
      scales.begin(), scales.end(), [](float a, float b) { return std::abs(a) < std::abs(b); });
  const float d = -largest / 32;
  const float inverse = d != 0 ? 1 / d : 0.0f;
  BlockParameters parameters{.scale = half_from_float(d)};
  std::array<uint8_t, k_blocks::kValues> codes;
  for (size_t s = 0; s < kSubBlocks; ++s) {
    const int level = std::clamp(reference::nearest_int(inverse * scales[s]), -32, 31);
    const float scale = d * static_cast<float>(level);
    parameters.sub_scale[s] = static_cast<int8_t>(level);
    reference::iq4_codes(values + 32 * s, scale != 0 ? 1 / scale : 0.0f, codes.data() + 32 * s);
  }
  pack(parameters, codes.data(), block);
}

void encode_reference(const float* row, int64_t columns, const float* importance, std::byte* out) {
  for (int64_t i = 0; i < columns; i += k_blocks::kValues, out += format.block_bytes) {
    encode_reference_block(row + i, importance ? importance + i : nullptr, out);
  }
}

constexpr float kStarts[] = {-135, -127.8f, -121.7f, -108.4f, 122.7f, 113};
constexpr search::SignedScales kSearch = {
    .starts = kStarts, .refinements = 0, .descents = 1, .neighbours = false};

}  // namespace

constinit const Format format = {
    .name = "IQ4_XS",
    .gguf_type = 23,
    .block_values = k_blocks::kValues,
    .block_bytes = 136,
    .sub_block_values = 32,
    .levels = kIq4FloatLevels,
    .gaussian_error = 5.52e-3,
    .bounds = kIq4Bounds,
    .ascending = kInOrder<16>,
    .fit_blocks = search::fit_signed<Iq4Rounding, 32, -32, 31, kSearch>,
    .grids = k_blocks::grids<kSubBlocks>,
    .snap = snap,
    .pack = pack,
    .unpack = unpack,
    .encode_reference = encode_reference,
};

}  // namespace fewbits::iq4_xs
