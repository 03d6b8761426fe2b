#include <algorithm>
#include <cmath>

#include "base/half.h"
#include "formats/bit_planes.h"
#include "formats/format.h"
#include "formats/levels.h"
#include "formats/search_blocks.h"

// 32 values, 8 bits each, one half scale d; value = d * q, q from -128 to 127.
//
//     byte 0  2                            34
//          [d | q0 q1 q2 ............. q31 ]
namespace fewbits::q8_0 {
extern const Format format;
namespace {

constexpr int kValues = 32;
constexpr int kCodes = 2;  // where the codes begin

void grids(const BlockParameters& parameters, Grid* grids) {
  grids[0] = {half_to_float(parameters.scale), kNoOffset};
}

void snap(const Grid* wanted, BlockParameters& parameters) {
  parameters = {.scale = half_from_float(wanted[0].scale)};
}

// Code and stored byte differ in the top bit: 0 is level -128.
void pack(const BlockParameters& parameters, const uint8_t* codes, std::byte* block) {
  store_half(parameters.scale, block);
  for (int i = 0; i < kValues; ++i) block[kCodes + i] = std::byte{codes[i]} ^ std::byte{0x80};
}

void unpack(const std::byte* block, BlockParameters& parameters, uint8_t* codes) {
  parameters = {.scale = load_half(block)};
  for (int i = 0; i < kValues; ++i) {
    codes[i] = std::to_integer<uint8_t>(block[kCodes + i] ^ std::byte{0x80});
  }
}

// Levels -127 to 127, halves away from zero, with the scale as it was before it became a half.
// Importance plays no part.
void encode_reference(const float* row, int64_t columns, const float*, std::byte* out) {
  for (const float* end = row + columns; row < end; row += kValues, out += format.block_bytes) {
    float largest = 0;
    for (int i = 0; i < kValues; ++i) largest = std::max(largest, std::abs(row[i]));
    const float scale = largest / 127.0f;
    const float inverse = scale != 0 ? 1.0f / scale : 0.0f;
    store_half(half_from_float(scale), out);
    for (int i = 0; i < kValues; ++i) {
      const float level = std::min(127.0f, std::max(-127.0f, std::round(row[i] * inverse)));
      out[kCodes + i] = static_cast<std::byte>(static_cast<int8_t>(level));
    }
  }
}

constexpr float kStarts[] = {-128.35f, -127.9f, -126.0f, 127.0f, 125.0f, 124.0f};
constexpr search::ScaleSearch kSearch = {.starts = kStarts, .refinements = 1};

}  // namespace

constinit const Format format = {
    .name = "Q8_0",
    .gguf_type = 8,
    .block_values = kValues,
    .block_bytes = 34,
    .sub_block_values = kValues,
    .levels = kConsecutive<-128, 127>,
    .gaussian_error = 2.29e-5,
    .fit_blocks = search::fit_scale<32, search::UniformRounding<-128, 127>, kSearch>,
    .grids = grids,
    .snap = snap,
    .pack = pack,
    .unpack = unpack,
    .encode_reference = encode_reference,
};

}  // namespace fewbits::q8_0
