#include "formats/nvfp4.h"

#include "formats/e2m1_doubled.h"

// NVFP4 as GGUF stores it: 64 values, four groups of 16, and no scale of the tensor.
//
//     [ 4 E4M3 scales | 4 x 8 bytes of codes ]
//
// Byte j of a group holds value j (low) and value j + 8 (high). Levels are the elements doubled, so
// a scale is worth half. Scales reach from 2^-9 to 448 only: weights whose largest values lie much
// below 0.1 lose by that; nvfp4_tensor has no such limit.
namespace fewbits::nvfp4 {
extern const Format format;
namespace {

constexpr int kValues = 64;
constexpr int kGroups = kValues / kGroup;
static_assert(kGroups == kLanesOf<Float4>);

/// Signs mean nothing, and what is no number is 0.
int8_t known_scale(uint8_t code) {
  const uint8_t magnitude = code & 0x7f;
  return static_cast<int8_t>(magnitude > kHighestScale ? 0 : magnitude);
}

float scale_of(int8_t code) {
  return 0.5f * small_floats::E4M3::kLevels[static_cast<size_t>(code)];
}

void fit(const float* values, const float* weights, int64_t blocks, BlockParameters* parameters) {
  for (int64_t b = 0; b < blocks; ++b) {
    search::SubBlocks<kGroup, Float4> four;
    search::load(values + b * kValues, weights ? weights + b * kValues : nullptr, four);
    const Int4 codes = sweep_scales<DoubledE2M1Rounding, 2>(four, 1);
    for (size_t g = 0; g < kGroups; ++g)
      parameters[b].sub_scale[g] = static_cast<int8_t>(codes[static_cast<int>(g)]);
  }
}

void grids(const BlockParameters& parameters, Grid* grids) {
  for (size_t g = 0; g < kGroups; ++g) grids[g] = {scale_of(parameters.sub_scale[g]), kNoOffset};
}

void snap(const Grid* wanted, BlockParameters& parameters) {
  for (size_t g = 0; g < kGroups; ++g) parameters.sub_scale[g] = nearest_scale(2 * wanted[g].scale);
}

void pack(const BlockParameters& parameters, const uint8_t* codes, std::byte* block) {
  for (size_t g = 0; g < kGroups; ++g) block[g] = static_cast<std::byte>(parameters.sub_scale[g]);
  pack_plane<4, 8>(codes, kValues, 0, block + kGroups);
}

void unpack(const std::byte* block, BlockParameters& parameters, uint8_t* codes) {
  for (size_t g = 0; g < kGroups; ++g)
    parameters.sub_scale[g] = known_scale(std::to_integer<uint8_t>(block[g]));
  unpack_plane<4, 8>(block + kGroups, kValues, 0, codes);
}

}  // namespace

constinit const Format format = {
    .name = "NVFP4",
    .gguf_type = 40,
    .block_values = kValues,
    .block_bytes = 36,
    .sub_block_values = kGroup,
    .levels = kDoubledE2M1,
    .gaussian_error = 6.61e-3,
    .bounds = kDoubledE2M1Bounds,
    .ascending = kDoubledE2M1Ascending,
    .one_pattern = false,
    .fit_blocks = fit,
    .grids = grids,
    .snap = snap,
    .pack = pack,
    .unpack = unpack,
};

}  // namespace fewbits::nvfp4
