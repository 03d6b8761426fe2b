#include <algorithm>
#include <cmath>

#include "formats/k_blocks.h"
#include "formats/reference.h"
#include "formats/search_symmetric.h"

// 256 values, 3 bits each, in 16 sub-blocks of 16 that have a signed scale of 6 bits; levels -4
// to 3.
//
//     byte 0                     32                            96                      108  110
//          [ 32 bytes of third bits | 2 x 32 bytes of low two bits | 12 bytes of scales | d ]
//
// Low bits as in Q2_K; bit s of third-bit byte l belongs to value 32 s + l. Scales are stored plus
// 32:
//
//     byte j      (j < 8)   [ scale j+8, low 4 | scale j, low 4 ]
//     byte j + 8  (j < 4)   [ top 2 of scale j+12 | of j+8 | of j+4 | of j ]
namespace fewbits::q3_k {
extern const Format format;
namespace {

constexpr int kSubBlocks = 16;
constexpr int kLowBits = 32;
constexpr int kScales = 96;
constexpr int kScale = 108;
constexpr int kBias = 32;

void snap(const Grid* wanted, BlockParameters& parameters) {
  snap_signed<-32, 31>(wanted, kSubBlocks, parameters);
}

// The scales are two bit planes, like codes.
void pack(const BlockParameters& parameters, const uint8_t* codes, std::byte* block) {
  std::array<uint8_t, kSubBlocks> scales;
  for (size_t s = 0; s < kSubBlocks; ++s) {
    scales[s] = static_cast<uint8_t>(parameters.sub_scale[s] + kBias);
  }
  pack_plane<1, 32>(codes, k_blocks::kValues, 2, block);
  pack_plane<2, 32>(codes, k_blocks::kValues, 0, block + kLowBits);
  pack_plane<4, 8>(scales.data(), kSubBlocks, 0, block + kScales);
  pack_plane<2, 4>(scales.data(), kSubBlocks, 4, block + kScales + 8);
  store_half(parameters.scale, block + kScale);
}

void unpack(const std::byte* block, BlockParameters& parameters, uint8_t* codes) {
  std::array<uint8_t, kSubBlocks> scales;
  unpack_plane<4, 8>(block + kScales, kSubBlocks, 0, scales.data());
  unpack_plane<2, 4>(block + kScales + 8, kSubBlocks, 4, scales.data());
  parameters = {};
  parameters.scale = load_half(block + kScale);
  for (size_t s = 0; s < kSubBlocks; ++s) {
    parameters.sub_scale[s] = static_cast<int8_t>(scales[s] - kBias);
  }
  unpack_plane<2, 32>(block + kLowBits, k_blocks::kValues, 0, codes);
  unpack_plane<1, 32>(block, k_blocks::kValues, 2, codes);
}

struct ReferenceBlock {
  std::array<float, kSubBlocks> scales;
  std::array<uint8_t, k_blocks::kValues> codes;
  BlockParameters parameters;
};

constexpr int kSize = k_blocks::kValues / kSubBlocks;
constexpr int kGroup = kLanesOf<Float4> * kSize;

void search_plain(const float* values, ReferenceBlock& block) {
  for (int i = 0; i < k_blocks::kValues; i += kGroup) {
    reference::search_q3(values + i, block.scales.data() + i / kSize, block.codes.data() + i);
  }
  const float largest =
      *std::max_element(block.scales.begin(), block.scales.end(),
                        [](float a, float b) { return std::abs(a) < std::abs(b); });
  if (largest == 0) {  // stored as 0, not as -32
    block.parameters.sub_scale.fill(-kBias);
    return;
  }
  const float inverse = -32.0f / largest;
  for (size_t s = 0; s < kSubBlocks; ++s) {
    const auto level = static_cast<int8_t>(reference::nearest_int(inverse * block.scales[s]));
    block.parameters.sub_scale[s] = std::clamp<int8_t>(level, -32, 31);
  }
  block.parameters.scale = half_from_float(1 / inverse);
}

void search_weighted(const float* values, const float* importance, ReferenceBlock& block) {
  std::array<float, k_blocks::kValues> weights;
  std::array<float, kGroup> scales{}, sums{};  // one lane of four is used
  const float spread = 2 * reference::sum_of_squares(values, k_blocks::kValues) / k_blocks::kValues;
  reference::importance_weights(values, importance, k_blocks::kValues, spread, weights.data());
  for (int i = 0; i < k_blocks::kValues; i += kGroup) {
    reference::search_symmetric<kSize>(values + i, weights.data() + i, 4, scales.data() + i / kSize,
                                       block.codes.data() + i);
  }
  for (size_t i = 0; i < k_blocks::kValues; ++i) sums[i / kSize] += weights[i];
  std::array<uint8_t, kGroup> integers;
  std::array<float, kLanesOf<Float4>> d;
  reference::search_symmetric<kSize>(scales.data(), sums.data(), kBias, d.data(), integers.data());
  for (size_t s = 0; s < kSubBlocks; ++s) {
    block.parameters.sub_scale[s] = static_cast<int8_t>(integers[s] - kBias);
  }
  block.parameters.scale = half_from_float(d[0]);
}

void encode_reference(const float* row, int64_t columns, const float* importance, std::byte* out) {
  for (int64_t i = 0; i < columns; i += k_blocks::kValues, out += format.block_bytes) {
    ReferenceBlock block{};
    if (importance) {
      search_weighted(row + i, importance + i, block);
    } else {
      search_plain(row + i, block);
    }
    const float d = half_to_float(block.parameters.scale);
    for (size_t s = 0; s < kSubBlocks; ++s) {
      const Grid grid{d * static_cast<float>(block.parameters.sub_scale[s]), kNoOffset};
      reference::requantize<kSize>(row + i + s * kSize, grid, -4, 3,
                                   block.codes.data() + s * kSize);
    }
    pack(block.parameters, block.codes.data(), out);
  }
}

constexpr float kStarts[] = {-4.8f, -4.4f, -4.05f, -3.75f, -3.3f, 4.0f, 3.0f, 2.1f};
constexpr search::SignedScales kSearch = {
    .starts = kStarts, .refinements = 1, .descents = 2, .neighbours = true};

}  // namespace

constinit const Format format = {
    .name = "Q3_K",
    .gguf_type = 11,
    .block_values = k_blocks::kValues,
    .block_bytes = 110,
    .sub_block_values = 16,
    .levels = kConsecutive<-4, 3>,
    .gaussian_error = 2.08e-2,
    .fit_blocks = search::fit_signed<search::UniformRounding<-4, 3>, 16, -32, 31, kSearch>,
    .grids = k_blocks::grids<kSubBlocks>,
    .snap = snap,
    .pack = pack,
    .unpack = unpack,
    .encode_reference = encode_reference,
};

}  // namespace fewbits::q3_k
