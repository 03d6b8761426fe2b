#include "formats/iq4_levels.h"
#include "formats/k_blocks.h"
#include "formats/plain_fit.h"

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

}  // namespace

constinit const Format format = {
    .name = "IQ4_XS",
    .gguf_type = 23,
    .block_values = k_blocks::kValues,
    .block_bytes = 136,
    .sub_block_values = 32,
    .levels = kIq4Levels,
    .gaussian_error = 5.9e-3,
    .fit = plain_fit<format, true>,
    .grids = k_blocks::grids<kSubBlocks>,
    .snap = snap,
    .pack = pack,
    .unpack = unpack,
};

}  // namespace fewbits::iq4_xs
