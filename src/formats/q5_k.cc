#include "formats/k_blocks.h"
#include "formats/reference_k.h"
#include "formats/search_minimum.h"

// 256 values, 5 bits each, in 8 sub-blocks of 32 that have a scale and a minimum of 6 bits.
//
//     byte 0   2      4                  16            48                 176
//          [ d | dmin | 12 of parameters | 32 of fifth bits | 4 x 32 of low four bits ]
//
// Low bits as in Q4_K; bit s of fifth-bit byte l belongs to value l of sub-block s.
namespace fewbits::q5_k {
extern const Format format;
namespace {

constexpr int kScales = 4;
constexpr int kHighBits = 16;
constexpr int kLowBits = 48;

void snap(const Grid* wanted, BlockParameters& parameters) {
  snap_with_minimum<63>(wanted, 8, parameters);
}

void pack(const BlockParameters& parameters, const uint8_t* codes, std::byte* block) {
  store_half(parameters.scale, block);
  store_half(parameters.minimum, block + 2);
  k_blocks::pack_scales(parameters, block + kScales);
  pack_plane<1, 32>(codes, k_blocks::kValues, 4, block + kHighBits);
  pack_plane<4, 32>(codes, k_blocks::kValues, 0, block + kLowBits);
}

void unpack(const std::byte* block, BlockParameters& parameters, uint8_t* codes) {
  parameters = {};
  parameters.scale = load_half(block);
  parameters.minimum = load_half(block + 2);
  k_blocks::unpack_scales(block + kScales, parameters);
  unpack_plane<4, 32>(block + kLowBits, k_blocks::kValues, 0, codes);
  unpack_plane<1, 32>(block + kHighBits, k_blocks::kValues, 4, codes);
}

constexpr reference::WithMinimum kReference = {
    .plain = {.limit = 31, .first = -0.5f, .step = 0.1f, .count = 15},
    .weighted = {.limit = 31, .first = -0.9f, .step = 0.05f, .count = 36},
    .scale_limit = 63,
    .spread = 2,
    .rms_weights = true,
};

constexpr search::Narrowing kStarts[] = {{0, 0},          {0, -0.2f},    {-0.2f, 0.2f},
                                         {0, -0.85f},     {0.45f, 0.2f}, {-0.05f, 0.55f},
                                         {-0.8f, -0.15f}, {0.5f, -0.2f}};
constexpr search::MinimumScales kSearch = {
    .starts = kStarts, .refinements = 1, .descents = 1, .neighbours = true};

}  // namespace

constinit const Format format = {
    .name = "Q5_K",
    .gguf_type = 13,
    .block_values = k_blocks::kValues,
    .block_bytes = 176,
    .sub_block_values = 32,
    .levels = kConsecutive<0, 31>,
    .gaussian_error = 1.22e-3,
    .fit_blocks = search::fit_with_minimum<32, 31, 63, kSearch>,
    .grids = k_blocks::grids_with_minimum<8>,
    .snap = snap,
    .pack = pack,
    .unpack = unpack,
    .encode_reference = reference::encode_row_with_minimum<format, kReference>,
};

}  // namespace fewbits::q5_k
