#include <algorithm>
#include <array>
#include <cmath>

#include "formats/bit_planes.h"
#include "formats/format.h"
#include "formats/levels.h"
#include "formats/search_blocks.h"

// Ternary blocks: 256 values with one half scale d; value = d * level, levels -1, 0 and 1.
//
//     TQ1_0   [ 32 bytes | 16 bytes | 4 bytes | d ]     5 values a byte, in the last four 4
//     TQ2_0   [ 64 bytes | d ]                          2 bits a value; code 3 (level 2) is unused
//
// Byte m of a run of n bytes holds the values m, m + n, m + 2 n, ... In TQ1_0 they are the digits
// of a number in base 3, the first the highest, and the byte is that number times 256/243, rounded
// up, so that each digit is the upper byte of a product with 3.
namespace fewbits::tq {
namespace {

constexpr int kValues = 256;
constexpr std::array<float, 4> kLevels = {-1, 0, 1, 2};
constexpr std::array<float, 2> kBounds = {-0.5f, 0.5f};
constexpr std::array<uint8_t, 3> kAscending = {0, 1, 2};

constexpr float kStarts[] = {1.0f, 1.4f, 1.7f, 2.0f, 2.3f, 2.6f, 3.0f, 3.5f, 4.2f};
constexpr search::ScaleSearch kSearch = {.starts = kStarts, .refinements = 2};

void grids(const BlockParameters& parameters, Grid* grids) {
  grids[0] = {half_to_float(parameters.scale), kNoOffset};
}

void snap(const Grid* wanted, BlockParameters& parameters) {
  parameters.scale = finite_half(wanted[0].scale);
}

struct Run {
  int bytes;
  int digits;  // in each
};
constexpr Run kRuns[] = {{32, 5}, {16, 5}, {4, 4}};
constexpr int kBytes1 = 54;
constexpr int kBytes2 = 66;

void pack1(const BlockParameters& parameters, const uint8_t* codes, std::byte* block) {
  for (const auto [bytes, digits] : kRuns) {
    for (int m = 0; m < bytes; ++m) {
      unsigned number = 0;
      for (int i = 0; i < 5; ++i) number = 3 * number + (i < digits ? codes[m + i * bytes] : 0u);
      *block++ = static_cast<std::byte>((number * 256 + 242) / 243);
    }
    codes += bytes * digits;
  }
  store_half(parameters.scale, block);
}

void unpack1(const std::byte* block, BlockParameters& parameters, uint8_t* codes) {
  for (const auto [bytes, digits] : kRuns) {
    for (int m = 0; m < bytes; ++m) {
      unsigned rest = std::to_integer<unsigned>(*block++);
      for (int i = 0; i < digits; ++i) {
        codes[m + i * bytes] = static_cast<uint8_t>(rest * 3 >> 8);
        rest = rest * 3 & 0xff;
      }
    }
    codes += bytes * digits;
  }
  parameters.scale = load_half(block);
}

void pack2(const BlockParameters& parameters, const uint8_t* codes, std::byte* block) {
  pack_plane<2, 32>(codes, kValues, 0, block);
  store_half(parameters.scale, block + kValues / 4);
}

void unpack2(const std::byte* block, BlockParameters& parameters, uint8_t* codes) {
  unpack_plane<2, 32>(block, kValues, 0, codes);
  parameters.scale = load_half(block + kValues / 4);
}

// The scale is the largest magnitude, halves round away from zero. Importance plays no part.
template <auto pack, int kBytes>
void encode_reference(const float* row, int64_t columns, const float*, std::byte* out) {
  for (const float* end = row + columns; row < end; row += kValues, out += kBytes) {
    float largest = 0;
    for (int i = 0; i < kValues; ++i) largest = std::max(largest, std::abs(row[i]));
    const float inverse = largest != 0 ? 1.0f / largest : 0.0f;
    std::array<uint8_t, kValues> codes;
    for (size_t i = 0; i < codes.size(); ++i) {
      const float level = std::min(1.0f, std::max(-1.0f, std::round(row[i] * inverse)));
      codes[i] = static_cast<uint8_t>(static_cast<int>(level) + 1);
    }
    const BlockParameters parameters{.scale = half_from_float(largest)};
    pack(parameters, codes.data(), out);
  }
}

}  // namespace

extern const Format tq1_0;
extern const Format tq2_0;

constinit const Format tq1_0 = {
    .name = "TQ1_0",
    .gguf_type = 34,
    .block_values = kValues,
    .block_bytes = kBytes1,
    .sub_block_values = kValues,
    .levels = std::span(kLevels).first<3>(),
    .gaussian_error = 1.89e-1,
    .bounds = kBounds,
    .ascending = kAscending,
    .one_pattern = false,
    .fit_blocks = search::fit_scale<kValues, search::UniformRounding<-1, 1>, kSearch>,
    .grids = grids,
    .snap = snap,
    .pack = pack1,
    .unpack = unpack1,
    .encode_reference = encode_reference<pack1, kBytes1>,
};

constinit const Format tq2_0 = {
    .name = "TQ2_0",
    .gguf_type = 35,
    .block_values = kValues,
    .block_bytes = kBytes2,
    .sub_block_values = kValues,
    .levels = kLevels,
    .gaussian_error = 1.89e-1,
    .bounds = kBounds,
    .ascending = kAscending,
    .fit_blocks = search::fit_scale<kValues, search::UniformRounding<-1, 1>, kSearch>,
    .grids = grids,
    .snap = snap,
    .pack = pack2,
    .unpack = unpack2,
    .encode_reference = encode_reference<pack2, kBytes2>,
};

}  // namespace fewbits::tq
