#include "formats/k_blocks.h"
#include "formats/reference_k.h"
#include "formats/search_minimum.h"

// 256 values, 4 bits each, in 8 sub-blocks of 32 that have a scale and a minimum of 6 bits.
//
//     byte 0   2      4                            16                                    144
//          [ d | dmin | 12 bytes of sub-block parameters | 4 x 32 bytes of codes ]
//
// The codes of a chunk of 64 values: byte l holds value l (low) and value l + 32 (high).
namespace fewbits::q4_k {
extern const Format format;
namespace {

constexpr int kScales = 4;
constexpr int kCodes = 16;

void snap(const Grid* wanted, BlockParameters& parameters) {
  snap_with_minimum<63>(wanted, 8, parameters);
}

void pack(const BlockParameters& parameters, const uint8_t* codes, std::byte* block) {
  store_half(parameters.scale, block);
  store_half(parameters.minimum, block + 2);
  k_blocks::pack_scales(parameters, block + kScales);
  pack_plane<4, 32>(codes, k_blocks::kValues, 0, block + kCodes);
}

void unpack(const std::byte* block, BlockParameters& parameters, uint8_t* codes) {
  parameters = {};
  parameters.scale = load_half(block);
  parameters.minimum = load_half(block + 2);
  k_blocks::unpack_scales(block + kScales, parameters);
  unpack_plane<4, 32>(block + kCodes, k_blocks::kValues, 0, codes);
}

constexpr reference::WithMinimum kReference = {
    .plain = {.limit = 15, .first = -1.0f, .step = 0.1f, .count = 20},
    .weighted = {.limit = 15, .first = -0.9f, .step = 0.05f, .count = 36},
    .scale_limit = 63,
    .spread = 2,
    .rms_weights = true,
};

constexpr search::Narrowing kStarts[] = {{0, 0},         {-0.1f, 0.3f},  {0.25f, -0.2f},
                                         {0.45f, 0.25f}, {0.6f, -0.05f}, {0.4f, 0.75f},
                                         {-0.1f, 0.7f},  {0.2f, -0.8f}};
constexpr search::MinimumScales kSearch = {
    .starts = kStarts, .refinements = 1, .descents = 1, .neighbours = false};

}  // namespace

constinit const Format format = {
    .name = "Q4_K",
    .gguf_type = 12,
    .block_values = k_blocks::kValues,
    .block_bytes = 144,
    .sub_block_values = 32,
    .levels = kConsecutive<0, 15>,
    .gaussian_error = 4.93e-3,
    .fit_blocks = search::fit_with_minimum<32, 15, 63, kSearch>,
    .grids = k_blocks::grids_with_minimum<8>,
    .snap = snap,
    .pack = pack,
    .unpack = unpack,
    .encode_reference = reference::encode_row_with_minimum<format, kReference>,
};

}  // namespace fewbits::q4_k
