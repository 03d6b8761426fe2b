#include <algorithm>
#include <cmath>
#include <cstring>

#include "formats/k_blocks.h"
#include "formats/reference.h"
#include "formats/search_symmetric.h"

// 256 values, 6 bits each, in 16 sub-blocks of 16 that have a signed scale of 8 bits; levels -32
// to 31.
//
//     byte 0                            128                         192                208  210
//          [ 2 x 64 bytes of low four bits | 2 x 32 bytes of high two bits | 16 scales | d ]
//
// In a half of 128 values, low-bit byte l holds value l (low) and l + 64 (high); high-bit byte l
// holds the values l, l + 32, l + 64, l + 96, lowest bits first.
namespace fewbits::q6_k {
extern const Format format;
namespace {

constexpr int kSubBlocks = 16;
constexpr int kHighBits = 128;
constexpr int kScales = 192;
constexpr int kScale = 208;

void snap(const Grid* wanted, BlockParameters& parameters) {
  snap_signed<-128, 127>(wanted, kSubBlocks, parameters);
}

void pack(const BlockParameters& parameters, const uint8_t* codes, std::byte* block) {
  pack_plane<4, 64>(codes, k_blocks::kValues, 0, block);
  pack_plane<2, 32>(codes, k_blocks::kValues, 4, block + kHighBits);
  std::memcpy(block + kScales, parameters.sub_scale.data(), kSubBlocks);
  store_half(parameters.scale, block + kScale);
}

void unpack(const std::byte* block, BlockParameters& parameters, uint8_t* codes) {
  parameters = {};
  parameters.scale = load_half(block + kScale);
  std::memcpy(parameters.sub_scale.data(), block + kScales, kSubBlocks);
  unpack_plane<4, 64>(block, k_blocks::kValues, 0, codes);
  unpack_plane<2, 32>(block + kHighBits, k_blocks::kValues, 4, codes);
}

constexpr int kSize = k_blocks::kValues / kSubBlocks;
constexpr int kGroup = kLanesOf<Float4> * kSize;

// Importance is the weight as it is; without it the weights are the squares.
void encode_reference_block(const float* values, const float* importance, std::byte* out) {
  std::array<float, k_blocks::kValues> weights;
  std::array<float, kSubBlocks> scales;
  std::array<uint8_t, k_blocks::kValues> codes;
  for (size_t i = 0; i < k_blocks::kValues; ++i) {
    weights[i] = importance ? importance[i] : values[i] * values[i];
  }
  for (int i = 0; i < k_blocks::kValues; i += kGroup) {
    reference::search_symmetric<kSize>(values + i, weights.data() + i, 32,
                                       scales.data() + i / kSize, codes.data() + i);
  }
  const float largest = *std::max_element(
      scales.begin(), scales.end(), [](float a, float b) { return std::abs(a) < std::abs(b); });
  if (std::abs(largest) < reference::kZero) {
    std::fill_n(out, format.block_bytes, std::byte{0});
    return;
  }
  const float inverse = -128.0f / largest;
  BlockParameters parameters{.scale = half_from_float(1 / inverse)};
  const float d = half_to_float(parameters.scale);
  for (size_t s = 0; s < kSubBlocks; ++s) {
    const int level = std::min(127, reference::nearest_int(inverse * scales[s]));
    parameters.sub_scale[s] = static_cast<int8_t>(level);
    const Grid grid{d * static_cast<float>(parameters.sub_scale[s]), kNoOffset};
    reference::requantize<kSize>(values + s * kSize, grid, -32, 31, codes.data() + s * kSize);
  }
  pack(parameters, codes.data(), out);
}

void encode_reference(const float* row, int64_t columns, const float* importance, std::byte* out) {
  for (int64_t i = 0; i < columns; i += k_blocks::kValues, out += format.block_bytes) {
    encode_reference_block(row + i, importance ? importance + i : nullptr, out);
  }
}

constexpr float kStarts[] = {-32.3f, -31.9f, -29.0f, 31.0f, 30.0f};
constexpr search::SignedScales kSearch = {
    .starts = kStarts, .refinements = 0, .descents = 0, .neighbours = true};

}  // namespace

constinit const Format format = {
    .name = "Q6_K",
    .gguf_type = 14,
    .block_values = k_blocks::kValues,
    .block_bytes = 210,
    .sub_block_values = 16,
    .levels = kConsecutive<-32, 31>,
    .gaussian_error = 2.83e-4,
    .fit_blocks = search::fit_signed<search::UniformRounding<-32, 31>, 16, -128, 127, kSearch>,
    .grids = k_blocks::grids<kSubBlocks>,
    .snap = snap,
    .pack = pack,
    .unpack = unpack,
    .encode_reference = encode_reference,
};

}  // namespace fewbits::q6_k
