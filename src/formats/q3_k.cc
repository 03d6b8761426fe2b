#include "formats/k_blocks.h"
#include "formats/plain_fit.h"

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

}  // namespace

constinit const Format format = {
    .name = "Q3_K",
    .gguf_type = 11,
    .block_values = k_blocks::kValues,
    .block_bytes = 110,
    .sub_block_values = 16,
    .levels = kConsecutive<-4, 3>,
    .gaussian_error = 2.33e-2,
    .fit = plain_fit<format, true>,
    .grids = k_blocks::grids<kSubBlocks>,
    .snap = snap,
    .pack = pack,
    .unpack = unpack,
};

}  // namespace fewbits::q3_k
