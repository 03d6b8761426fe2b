#include <cmath>

#include "formats/e2m1_doubled.h"
#include "formats/mx.h"
#include "formats/packed_codes.h"

// MX with elements of FP4 (E2M1), as GGUF stores it.
//
//     [ e | 16 bytes of codes ]
//
// Byte j of the codes holds value j (low) and value j + 16 (high). Levels are the elements doubled,
// so the scale is half of MX's.
namespace fewbits::mxfp4 {
extern const Format format;
namespace {

constexpr int kShift = 1;
constexpr int kLargestExponent = 2;  // of 6, the largest element
constexpr int kBytes = 17;

void pack(const BlockParameters& parameters, const uint8_t* codes, std::byte* block) {
  block[0] = static_cast<std::byte>(parameters.scale);
  pack_plane<4, 16>(codes, mx::kValues, 0, block + 1);
}

void unpack(const std::byte* block, BlockParameters& parameters, uint8_t* codes) {
  parameters.scale = std::to_integer<uint8_t>(block[0]);
  unpack_plane<4, 16>(block + 1, mx::kValues, 0, codes);
}

/// The first of the levels that are nearest.
uint8_t first_nearest(float value, float scale) {
  uint8_t best = 0;
  float least = std::abs(kDoubledE2M1[0] * scale - value);
  for (uint8_t code = 1; code < 16; ++code) {
    const float error = std::abs(kDoubledE2M1[code] * scale - value);
    if (error < least) {
      least = error;
      best = code;
    }
  }
  return best;
}

// The standard's rule. Importance plays no part.
void encode_reference(const float* row, int64_t columns, const float*, std::byte* out) {
  for (const float* end = row + columns; row < end; row += mx::kValues, out += kBytes) {
    float largest = 0;
    for (int i = 0; i < mx::kValues; ++i) largest = std::max(largest, std::abs(row[i]));
    const int e =
        largest > 0 && largest < INFINITY ? std::ilogb(largest) - kLargestExponent + 127 : 0;
    BlockParameters parameters{.scale = static_cast<uint8_t>(e)};
    const float scale = mx::scale_of(static_cast<uint8_t>(e), kShift);
    std::array<uint8_t, mx::kValues> codes;
    for (size_t i = 0; i < codes.size(); ++i) codes[i] = first_nearest(row[i], scale);
    pack(parameters, codes.data(), out);
  }
}

}  // namespace

constinit const Format format = {
    .name = "MXFP4",
    .gguf_type = 39,
    .block_values = mx::kValues,
    .block_bytes = kBytes,
    .sub_block_values = mx::kValues,
    .levels = kDoubledE2M1,
    .gaussian_error = 1.25e-2,
    .bounds = kDoubledE2M1Bounds,
    .ascending = kDoubledE2M1Ascending,
    .fit_blocks = mx::fit<DoubledE2M1Rounding, kLargestExponent, kShift>,
    .grids = mx::grids<kShift>,
    .snap = mx::snap<kShift>,
    .pack = pack,
    .unpack = unpack,
    .encode_reference = encode_reference,
};

}  // namespace fewbits::mxfp4
