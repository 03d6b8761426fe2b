#include <cstring>

#include "formats/k_blocks.h"
#include "formats/plain_fit.h"

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

}  // namespace

constinit const Format format = {
    .name = "Q6_K",
    .gguf_type = 14,
    .block_values = k_blocks::kValues,
    .block_bytes = 210,
    .sub_block_values = 16,
    .levels = kConsecutive<-32, 31>,
    .gaussian_error = 3.14e-4,
    .fit = plain_fit<format, true>,
    .grids = k_blocks::grids<kSubBlocks>,
    .snap = snap,
    .pack = pack,
    .unpack = unpack,
};

}  // namespace fewbits::q6_k
