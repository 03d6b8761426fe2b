#include "kernels/block_packing.h"

#include <array>
#include <cstring>

#include "base/error.h"
#include "base/half.h"
#include "formats/iq_levels.h"

namespace fewbits {
namespace {

constexpr int64_t kRows = 16;

using Codes = std::array<uint8_t, kMaxBlockValues>;

uint32_t load_quad(const uint8_t* in) {
  uint32_t quad;
  std::memcpy(&quad, in, sizeof quad);
  return quad;
}

void store_quad(uint32_t quad, uint8_t* out) {
  std::memcpy(out, &quad, sizeof quad);
}

/// A byte four times.
constexpr uint32_t in_each_byte(uint32_t byte) {
  return byte * 0x01010101u;
}

/// Bits [shift, shift + bits) of a block's codes into the row's dword of each chunk.
void pack_row_plane(const uint8_t* codes, int bits, int shift, int64_t row, uint8_t* plane) {
  const uint32_t mask = in_each_byte((1u << bits) - 1);
  for (int chunk = 0; chunk < bits; ++chunk) {
    uint32_t word = 0;
    for (int at = 0; at < 8; at += bits) {
      const uint32_t quad = load_quad(codes + 4 * (chunk + at));
      word |= ((quad >> shift) & mask) << at;
    }
    store_quad(word, plane + chunk * kQuadBytes + row * 4);
  }
}

void unpack_row_plane(const uint8_t* plane, int bits, int shift, int64_t row, uint8_t* codes) {
  const uint32_t mask = in_each_byte((1u << bits) - 1);
  for (int chunk = 0; chunk < bits; ++chunk) {
    const uint32_t word = load_quad(plane + chunk * kQuadBytes + row * 4);
    for (int at = 0; at < 8; at += bits) {
      uint8_t* quad = codes + 4 * (chunk + at);
      store_quad(load_quad(quad) | ((word >> at) & mask) << shift, quad);
    }
  }
}

/// K-quants subtract their minimum: it is kept with the other sign, so that kernels always add.
constexpr uint16_t kSignBit = 0x8000;
uint16_t flip_minimum(const BlockLayout& layout, uint16_t minimum) {
  return layout.sub_scale == SubScale::kNone ? minimum : minimum ^ kSignBit;
}

/// 2^(exponent - 128) as a bfloat, the two smallest of them subnormal.
uint16_t bfloat_of_power(uint16_t exponent) {
  return static_cast<uint16_t>(exponent < 2 ? 0x20 << exponent : (exponent - 1) << 7);
}

uint16_t exponent_of(uint16_t bfloat) {
  return static_cast<uint16_t>(bfloat < 0x80 ? bfloat >> 6 : (bfloat >> 7) + 1);
}

/// Calls visit(sub-block of the format's block, where its scale is kept, where its minimum is kept)
/// for each sub-block of a block of 32; both places are the same where they share a byte.
template <class Byte, class Visit>
void for_parameters(const BlockLayout& layout, size_t first_sub, int64_t row, Byte* parameters,
                    Visit visit) {
  const int64_t step = layout.sub_scale == SubScale::kUnsigned ? 2 * kRows : kRows;
  for (int s = 0; s < layout.sub_blocks; ++s, parameters += step) {
    Byte* scale = parameters + row;
    visit(first_sub + static_cast<size_t>(s), scale,
          layout.sub_scale == SubScale::kUnsigned ? scale + kRows : scale);
  }
}

void pack_parameters(const BlockLayout& layout, const BlockParameters& in, size_t first_sub,
                     int64_t row, uint8_t* parameters) {
  if (layout.sub_scale == SubScale::kNone) return;
  for_parameters(layout, first_sub, row, parameters,
                 [&](size_t sub, uint8_t* scale, uint8_t* minimum) {
                   if (layout.sub_scale == SubScale::kNibbles) {
                     *scale = static_cast<uint8_t>(in.sub_scale[sub] | in.sub_minimum[sub] << 4);
                     return;
                   }
                   const bool doubled = layout.sub_scale == SubScale::kE4M3;
                   *scale = static_cast<uint8_t>(in.sub_scale[sub] * (doubled ? 2 : 1));
                   if (layout.minimum) *minimum = in.sub_minimum[sub];
                 });
}

void unpack_parameters(const BlockLayout& layout, const uint8_t* parameters, size_t first_sub,
                       int64_t row, BlockParameters& out) {
  if (layout.sub_scale == SubScale::kNone) return;
  for_parameters(layout, first_sub, row, parameters,
                 [&](size_t sub, const uint8_t* scale, const uint8_t* minimum) {
                   const bool nibbles = layout.sub_scale == SubScale::kNibbles;
                   const bool doubled = layout.sub_scale == SubScale::kE4M3;
                   const int whole = doubled ? *scale / 2 : *scale;
                   out.sub_scale[sub] = static_cast<int8_t>(nibbles ? *scale & 15 : whole);
                   if (layout.minimum)
                     out.sub_minimum[sub] =
                         static_cast<uint8_t>(nibbles ? *minimum >> 4 : *minimum);
                 });
}

void put_half(uint16_t half, int64_t row, uint8_t* list) {
  std::memcpy(list + 2 * row, &half, sizeof half);
}

uint16_t take_half(const uint8_t* list, int64_t row) {
  uint16_t half;
  std::memcpy(&half, list + 2 * row, sizeof half);
  return half;
}

void pack_header(const BlockLayout& layout, const BlockParameters& in, int64_t row,
                 uint8_t* header) {
  if (!layout.has_header()) return;
  const bool power = layout.super_scale == SuperScale::kPower;
  put_half(power ? bfloat_of_power(in.scale) : in.scale, row, header);
  if (layout.minimum)
    put_half(flip_minimum(layout, in.minimum), row, header + BlockLayout::kHalfBytes);
}

void unpack_header(const BlockLayout& layout, const uint8_t* header, int64_t row,
                   BlockParameters& out) {
  if (!layout.has_header()) return;
  const uint16_t scale = take_half(header, row);
  out.scale = layout.super_scale == SuperScale::kPower ? exponent_of(scale) : scale;
  if (layout.minimum)
    out.minimum = flip_minimum(layout, take_half(header + BlockLayout::kHalfBytes, row));
}

/// One block of the format, as far as the layout keeps it.
void unpack_block(const BlockLayout& layout, const uint8_t* super, int64_t row,
                  BlockParameters& parameters, uint8_t* codes) {
  unpack_header(layout, super, row, parameters);
  const uint8_t* block = super + layout.super_header_bytes();
  for (int b = 0; b < layout.super_blocks; ++b, block += layout.block_bytes()) {
    unpack_parameters(layout, block, static_cast<size_t>(b * layout.sub_blocks), row, parameters);
    const uint8_t* low = block + layout.parameter_bytes();
    unpack_row_plane(low, layout.low_bits, 0, row, codes + b * kBlockValues);
    if (layout.high_bits == 0) continue;
    unpack_row_plane(low + layout.low_bits * kQuadBytes, layout.high_bits, layout.low_bits, row,
                     codes + b * kBlockValues);
  }
}

}  // namespace

void pack_block_row(const BlockLayout& layout, const Format& format, const std::byte* in,
                    int64_t columns, int64_t row, uint8_t* group) {
  check(format.block_values == kBlockValues * layout.super_blocks);
  Codes codes;
  BlockParameters parameters;
  for (int64_t done = 0; done < columns; done += format.block_values, in += format.block_bytes) {
    if (layout.vectors()) {
      iq::level_codes(format, in, parameters, codes.data());
    } else {
      format.unpack(in, parameters, codes.data());
    }
    pack_header(layout, parameters, row, group);
    uint8_t* block = group + layout.super_header_bytes();
    for (int b = 0; b < layout.super_blocks; ++b, block += layout.block_bytes()) {
      pack_parameters(layout, parameters, static_cast<size_t>(b * layout.sub_blocks), row, block);
      uint8_t* low = block + layout.parameter_bytes();
      pack_row_plane(codes.data() + b * kBlockValues, layout.low_bits, 0, row, low);
      if (layout.high_bits == 0) continue;
      pack_row_plane(codes.data() + b * kBlockValues, layout.high_bits, layout.low_bits, row,
                     low + layout.low_bits * kQuadBytes);
    }
    group += layout.super_bytes();
  }
}

void unpack_block_row(const BlockLayout& layout, const Format& format, const uint8_t* group,
                      int64_t columns, int64_t row, std::byte* out) {
  check(!layout.vectors());
  for (int64_t done = 0; done < columns; done += format.block_values, out += format.block_bytes) {
    Codes codes{};
    BlockParameters parameters;
    unpack_block(layout, group, row, parameters, codes.data());
    format.pack(parameters, codes.data(), out);
    group += layout.super_bytes();
  }
}

void decode_block_row(const BlockLayout& layout, const Format& format, const uint8_t* group,
                      int64_t columns, int64_t row, float* out) {
  check(layout.vectors());
  const auto& levels = iq::signed_levels(format);
  for (int64_t done = 0; done < columns; done += format.block_values) {
    Codes codes{};
    BlockParameters parameters;
    unpack_block(layout, group, row, parameters, codes.data());
    const float d = half_to_float(parameters.scale) * layout.unit;
    const auto size = static_cast<size_t>(kBlockValues / layout.sub_blocks);
    for (size_t i = 0; i < static_cast<size_t>(format.block_values); ++i)
      *out++ = d * static_cast<float>(parameters.sub_scale[i / size]) *
               static_cast<float>(levels[codes[i]]);
    group += layout.super_bytes();
  }
}

}  // namespace fewbits
