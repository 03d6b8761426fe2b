#include <cmath>

#include "formats/nvfp4.h"
#include "formats/packed_codes.h"

// NVFP4 with the scale of its tensor, as GPUs compute with it and as model folders hold it.
//
//     row:  [ float tensor scale ][ blocks ]         16 values:  [ E4M3 scale | 8 bytes of codes ]
//
//     value = (tensor scale * scale) * element
//
// The tensor scale is the least power of two by which no group's scale needs to be above 448: one
// that lets the largest be 448 itself gains nothing, as scales are floats too, and this one has an
// exact inverse, which is what model folders store. Codes lie lowest bits first.
namespace fewbits::nvfp4_tensor {
extern const Format format;
namespace {

using nvfp4::kGroup;
using small_floats::E2M1;
using small_floats::E4M3;

constexpr float kLargestOfTensor = 1e38f;

void fit_tensor(const TensorRange& range, Outer& outer) {
  const float largest = std::min(std::max(-range.low, range.high), kLargestOfTensor);
  const float wanted = largest / (nvfp4::kLargestElement * E4M3::kLargest);
  int exponent = 0;
  const float fraction = std::frexp(wanted, &exponent);
  outer.scale = wanted > 0 ? std::ldexp(1.0f, fraction == 0.5f ? exponent - 1 : exponent) : 0.0f;
}

FEWBITS_WIDE_LANES void fit(const float* values, const float* weights, int64_t blocks,
                            BlockParameters* parameters) {
  using search::kLanes;
  for (int64_t b = 0; b < blocks; b += kLanes) {
    const int64_t at = b * kGroup;
    search::SubBlocks<kGroup> groups;
    search::load_up_to(blocks - b, values + at, weights ? weights + at : nullptr, groups);
    const auto codes = nvfp4::sweep_scales<E2M1::Rounding, 1>(groups, parameters[b].outer.scale);
    for (int64_t lane = 0; lane < std::min<int64_t>(kLanes, blocks - b); ++lane) {
      parameters[b + lane].sub_scale[0] = static_cast<int8_t>(codes[lane]);
    }
  }
}

void grids(const BlockParameters& parameters, Grid* grids) {
  const float scale = E4M3::kLevels[static_cast<uint8_t>(parameters.sub_scale[0])];
  grids[0] = {parameters.outer.scale * scale, kNoOffset};
}

void snap(const Grid* wanted, BlockParameters& parameters) {
  const float unit = parameters.outer.scale;
  parameters.sub_scale[0] = nvfp4::nearest_scale(unit > 0 ? wanted[0].scale / unit : 0.0f);
}

void pack(const BlockParameters& parameters, const uint8_t* codes, std::byte* block) {
  block[0] = static_cast<std::byte>(parameters.sub_scale[0]);
  pack_codes<4, kGroup>(codes, block + 1);
}

void unpack(const std::byte* block, BlockParameters& parameters, uint8_t* codes) {
  parameters.sub_scale[0] = std::to_integer<int8_t>(block[0]);
  unpack_codes<4, kGroup>(block + 1, codes);
}

}  // namespace

constinit const Format format = {
    .name = "nvfp4_tensor",
    .gguf_type = -1,
    .block_values = kGroup,
    .block_bytes = 1 + kGroup / 2,
    .sub_block_values = kGroup,
    .levels = E2M1::kLevels,
    .gaussian_error = 6.61e-3,
    .bounds = E2M1::kBounds,
    .ascending = E2M1::kAscending,
    .sharing = Sharing::kTensor,
    .outer_bytes = 4,
    .fit_tensor = fit_tensor,
    .fit_blocks = fit,
    .grids = grids,
    .snap = snap,
    .pack = pack,
    .unpack = unpack,
};

}  // namespace fewbits::nvfp4_tensor
