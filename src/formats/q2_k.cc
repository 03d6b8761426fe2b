#include "formats/k_blocks.h"
#include "formats/reference_k.h"
#include "formats/search_minimum.h"

// 256 values, 2 bits each, in 16 sub-blocks of 16 that have a scale and a minimum of 4 bits.
//
//     byte 0                                    16                      80  82     84
//          [ 16 x [ minimum | scale ] | 2 x 32 bytes of codes | d | dmin ]
//
// The codes of a half of 128 values: byte l holds the values l, l + 32, l + 64, l + 96, lowest bits
// first.
namespace fewbits::q2_k {
extern const Format format;
namespace {

constexpr int kSubBlocks = 16;
constexpr int kCodes = 16;
constexpr int kScale = 80;
constexpr int kMinimum = 82;

void snap(const Grid* wanted, BlockParameters& parameters) {
  snap_with_minimum<15>(wanted, kSubBlocks, parameters);
}

void pack(const BlockParameters& parameters, const uint8_t* codes, std::byte* block) {
  for (size_t s = 0; s < kSubBlocks; ++s) {
    as_bytes(block)[s] =
        static_cast<uint8_t>(parameters.sub_scale[s] | parameters.sub_minimum[s] << 4);
  }
  pack_plane<2, 32>(codes, k_blocks::kValues, 0, block + kCodes);
  store_half(parameters.scale, block + kScale);
  store_half(parameters.minimum, block + kMinimum);
}

void unpack(const std::byte* block, BlockParameters& parameters, uint8_t* codes) {
  parameters = {};
  parameters.scale = load_half(block + kScale);
  parameters.minimum = load_half(block + kMinimum);
  for (size_t s = 0; s < kSubBlocks; ++s) {
    parameters.sub_scale[s] = static_cast<int8_t>(as_bytes(block)[s] & 15);
    parameters.sub_minimum[s] = static_cast<uint8_t>(as_bytes(block)[s] >> 4);
  }
  unpack_plane<2, 32>(block + kCodes, k_blocks::kValues, 0, codes);
}

constexpr reference::WithMinimum kReference = {
    .plain = {.limit = 3, .first = -0.5f, .step = 0.1f, .count = 15},
    .weighted = {.limit = 3, .first = -0.9f, .step = 0.05f, .count = 36},
    .scale_limit = 15,
    .spread = 1,
    .rms_weights = false,
};

constexpr search::Narrowing kStarts[] = {{0, 0.16f},      {0.42f, 0.38f}, {-0.12f, 0.46f},
                                         {0.34f, -0.03f}, {0.72f, 0.1f},  {0.33f, 0.74f}};
constexpr search::MinimumScales kSearch = {
    .starts = kStarts, .refinements = 1, .descents = 2, .neighbours = true};

}  // namespace

constinit const Format format = {
    .name = "Q2_K",
    .gguf_type = 10,
    .block_values = k_blocks::kValues,
    .block_bytes = 84,
    .sub_block_values = 16,
    .levels = kConsecutive<0, 3>,
    .gaussian_error = 6.78e-2,
    .fit_blocks = search::fit_with_minimum<16, 3, 15, kSearch>,
    .grids = k_blocks::grids_with_minimum<kSubBlocks>,
    .snap = snap,
    .pack = pack,
    .unpack = unpack,
    .encode_reference = reference::encode_row_with_minimum<format, kReference>,
};

}  // namespace fewbits::q2_k
