#include <array>
#include <bit>

#include "base/half.h"
#include "formats/bit_planes.h"
#include "formats/format.h"
#include "formats/iq_encode.h"
#include "formats/iq_grids.h"

// GGUF's formats whose codes are vectors: 8 (IQ3: 4) consecutive values are one entry of a code
// book of magnitudes, with signs of their own, times a scale that 16 or 32 values share. 256 values
// are a block, in 8 parts of 32:
//
//     IQ2_XXS  [ d | 8 x (4 bytes of indices, 4 of signs and scale) ]
//     IQ2_XS   [ d | 32 x 2 bytes: index, signs | 8 bytes of scales ]
//     IQ2_S    [ d | 32 low bytes of indices | 32 of signs | 8 with high bits of indices | 8 of
//     scales ] IQ3_XXS  [ d | 64 indices | 8 x 4 bytes of signs and scale ] IQ3_S    [ d | 64 low
//     bytes of indices | 8 with high bits | 32 of signs | 4 of scales ] IQ1_S    [ d | 32 low bytes
//     of indices | 8 x 2 bytes: high bits, scale, shift ] IQ1_M    [ 32 low bytes of indices | 16:
//     high bits and shifts | 8: scales and d ]
//
// Seven bits of signs stand for eight: the number of minus signs is even. IQ1 has no signs; all of
// its values are shifted by 1/8 up or down.
namespace fewbits::iq {
namespace {

constexpr int kValues = 256;
constexpr int kParts = 8;
constexpr int kPart = 32;

constexpr std::array<float, 4> kIq1Values = {-1, 0, 1, 0};
constexpr std::array<float, 4> kIq2Values = {8, 25, 43, 0};
constexpr std::array<float, 8> kIq3XxsValues = {4, 12, 20, 28, 36, 44, 52, 62};
constexpr std::array<float, 8> kIq3SValues = {1, 3, 5, 7, 9, 11, 13, 15};

uint32_t load16(const uint8_t* at) {
  return static_cast<uint32_t>(at[0] | at[1] << 8);
}
uint32_t load32(const uint8_t* at) {
  return load16(at) | load16(at + 2) << 16;
}

/// Eight signs, one bit each, of which seven are stored.
uint32_t with_parity(uint32_t seven) {
  seven &= 127;
  return seven | static_cast<uint32_t>(std::popcount(seven) & 1) << 7;
}

/// A bit set means minus.
void put_vector8(uint32_t entry, uint32_t signs, float scale, float* out) {
  for (int i = 0; i < 8; ++i, entry >>= 2) {
    const float value = scale * kIq2Values[entry & 3];
    out[i] = (signs >> i & 1) ? -value : value;
  }
}

void put_vector4(uint32_t entry, const std::array<float, 8>& values, uint32_t signs, float scale,
                 float* out) {
  for (int i = 0; i < 4; ++i, entry >>= 3) {
    const float value = scale * values[entry & 7];
    out[i] = (signs >> i & 1) ? -value : value;
  }
}

void put_shifted(uint32_t entry, float shift, float scale, float* out) {
  for (int i = 0; i < 8; ++i, entry >>= 2) out[i] = scale * (kIq1Values[entry & 3] + shift);
}

/// The scale of IQ2 for four bits.
float quarter_scale(float d, uint32_t bits) {
  return d * (0.5f + static_cast<float>(bits & 15)) * 0.25f;
}

void decode_iq2_xxs(const uint8_t* block, float* out) {
  const float d = half_to_float(static_cast<uint16_t>(load16(block)));
  const uint8_t* part = block + 2;
  for (int p = 0; p < kParts; ++p, part += 8, out += kPart) {
    const uint32_t rest = load32(part + 4);
    const float scale = quarter_scale(d, rest >> 28);
    for (int v = 0; v < 4; ++v)
      put_vector8(kIq2XxsGrid[part[v]], with_parity(rest >> (7 * v)), scale, out + 8 * v);
  }
}

void decode_iq2_xs(const uint8_t* block, float* out) {
  const float d = half_to_float(static_cast<uint16_t>(load16(block)));
  const uint8_t* codes = block + 2;
  const uint8_t* scales = block + 66;
  for (int v = 0; v < kValues / 8; ++v) {
    const uint32_t code = load16(codes + 2 * v);
    const float scale = quarter_scale(d, static_cast<uint32_t>(scales[v / 4] >> (v % 4 / 2 * 4)));
    put_vector8(kIq2XsGrid[code & 511], with_parity(code >> 9), scale, out + 8 * v);
  }
}

void decode_iq2_s(const uint8_t* block, float* out) {
  const float d = half_to_float(static_cast<uint16_t>(load16(block)));
  const uint8_t* low = block + 2;
  const uint8_t* signs = block + 34;
  const uint8_t* high = block + 66;
  const uint8_t* scales = block + 74;
  for (int v = 0; v < kValues / 8; ++v) {
    const uint32_t index = low[v] | (static_cast<uint32_t>(high[v / 4]) >> (v % 4 * 2) & 3) << 8;
    const float scale = quarter_scale(d, static_cast<uint32_t>(scales[v / 4] >> (v % 4 / 2 * 4)));
    put_vector8(kIq2SGrid[index], signs[v], scale, out + 8 * v);
  }
}

void decode_iq3_xxs(const uint8_t* block, float* out) {
  const float d = half_to_float(static_cast<uint16_t>(load16(block)));
  const uint8_t* index = block + 2;
  for (int p = 0; p < kParts; ++p) {
    const uint32_t rest = load32(block + 66 + 4 * p);
    const float scale = d * (0.5f + static_cast<float>(rest >> 28)) * 0.5f;
    for (int v = 0; v < 4; ++v, index += 2, out += 8) {
      const uint32_t signs = with_parity(rest >> (7 * v));
      put_vector4(kIq3XxsGrid[index[0]], kIq3XxsValues, signs, scale, out);
      put_vector4(kIq3XxsGrid[index[1]], kIq3XxsValues, signs >> 4, scale, out + 4);
    }
  }
}

void decode_iq3_s(const uint8_t* block, float* out) {
  const float d = half_to_float(static_cast<uint16_t>(load16(block)));
  const uint8_t* low = block + 2;
  const uint8_t* high = block + 66;
  const uint8_t* signs = block + 74;
  const uint8_t* scales = block + 106;
  for (int v = 0; v < kValues / 4; ++v) {
    const int part = v / 8;
    const uint32_t bits = static_cast<uint32_t>(scales[part / 2]) >> (part % 2 * 4) & 15;
    const uint32_t index = low[v] | (static_cast<uint32_t>(high[part]) >> (v % 8) & 1) << 8;
    put_vector4(kIq3SGrid[index], kIq3SValues, static_cast<uint32_t>(signs[v / 2]) >> (v % 2 * 4),
                d * static_cast<float>(1 + 2 * bits), out + 4 * v);
  }
}

constexpr float kShift = 0.125f;

void decode_iq1_s(const uint8_t* block, float* out) {
  const float d = half_to_float(static_cast<uint16_t>(load16(block)));
  for (int v = 0; v < kValues / 8; ++v) {
    const uint32_t high = load16(block + 34 + v / 4 * 2);
    const uint32_t index = block[2 + v] | (high >> (3 * (v % 4)) & 7) << 8;
    const float scale = d * static_cast<float>(2 * (high >> 12 & 7) + 1);
    put_shifted(kIq1Grid[index], (high & 0x8000) ? -kShift : kShift, scale, out + 8 * v);
  }
}

void decode_iq1_m(const uint8_t* block, float* out) {
  const uint8_t* scales = block + 48;
  uint32_t half = 0;  // the top four bits of each 16
  for (int i = 0; i < 4; ++i) half |= load16(scales + 2 * i) >> 12 << (4 * i);
  const float d = half_to_float(static_cast<uint16_t>(half));
  for (int v = 0; v < kValues / 8; ++v) {
    const uint32_t high = static_cast<uint32_t>(block[32 + v / 2]) >> (v % 2 * 4);
    const uint32_t index = block[v] | (high & 7) << 8;
    const uint32_t bits = load16(scales + v / 8 * 2) >> (v % 8 / 2 * 3) & 7;
    put_shifted(kIq1Grid[index], (high & 8) ? -kShift : kShift,
                d * static_cast<float>(2 * bits + 1), out + 8 * v);
  }
}

template <auto decode_block, int kBytes>
void decode_blocks(const std::byte* bytes, int64_t count, float* out) {
  for (int64_t i = 0; i < count; i += kValues, bytes += kBytes)
    decode_block(as_bytes(bytes), out + i);
}

template <auto decode_block, int kBytes>
constexpr Format vectors(std::string_view name, int32_t gguf_type, double gaussian_error,
                         decltype(Format::encode_vectors) encode) {
  return {
      .name = name,
      .gguf_type = gguf_type,
      .block_values = kValues,
      .block_bytes = kBytes,
      .sub_block_values = kValues,
      .levels = {},
      .gaussian_error = gaussian_error,
      .needs_importance = name != "IQ3_S",
      .decode_floats = decode_blocks<decode_block, kBytes>,
      .encode_vectors = encode,
  };
}

}  // namespace

extern const Format iq1_m;
extern const Format iq1_s;
extern const Format iq2_s;
extern const Format iq2_xs;
extern const Format iq2_xxs;
extern const Format iq3_s;
extern const Format iq3_xxs;

constinit const Format iq1_m = vectors<decode_iq1_m, 56>("IQ1_M", 29, 1.701e-1, encode_iq1_m);
constinit const Format iq1_s = vectors<decode_iq1_s, 50>("IQ1_S", 19, 1.974e-1, encode_iq1_s);
constinit const Format iq2_s = vectors<decode_iq2_s, 82>("IQ2_S", 22, 5.740e-2, encode_iq2_s);
constinit const Format iq2_xs = vectors<decode_iq2_xs, 74>("IQ2_XS", 17, 8.120e-2, encode_iq2_xs);
constinit const Format iq2_xxs =
    vectors<decode_iq2_xxs, 66>("IQ2_XXS", 16, 1.072e-1, encode_iq2_xxs);
constinit const Format iq3_s = vectors<decode_iq3_s, 110>("IQ3_S", 21, 1.740e-2, encode_iq3_s);
constinit const Format iq3_xxs =
    vectors<decode_iq3_xxs, 98>("IQ3_XXS", 18, 3.190e-2, encode_iq3_xxs);

}  // namespace fewbits::iq
