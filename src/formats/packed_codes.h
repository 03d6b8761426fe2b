#pragma once

#include <algorithm>

#include "formats/bit_planes.h"

namespace fewbits {

/// Codes of 2, 4 or 8 bits one after the other, lowest bits first; of 3 bits two and then the
/// third, of 6 bits four and then two.
template <int kBits, int kValues>
void pack_codes(const uint8_t* codes, std::byte* out) {
  if constexpr (kBits == 8) {
    std::copy_n(codes, kValues, as_bytes(out));
  } else if constexpr (kBits == 3) {
    pack_plane<2, 1>(codes, kValues, 0, out);
    pack_plane<1, 1>(codes, kValues, 2, out + kValues / 4);
  } else if constexpr (kBits == 6) {
    pack_plane<4, 1>(codes, kValues, 0, out);
    pack_plane<2, 1>(codes, kValues, 4, out + kValues / 2);
  } else {
    pack_plane<kBits, 1>(codes, kValues, 0, out);
  }
}

template <int kBits, int kValues>
void unpack_codes(const std::byte* in, uint8_t* codes) {
  if constexpr (kBits == 8) {
    std::copy_n(as_bytes(in), kValues, codes);
  } else if constexpr (kBits == 3) {
    unpack_plane<2, 1>(in, kValues, 0, codes);
    unpack_plane<1, 1>(in + kValues / 4, kValues, 2, codes);
  } else if constexpr (kBits == 6) {
    unpack_plane<4, 1>(in, kValues, 0, codes);
    unpack_plane<2, 1>(in + kValues / 2, kValues, 4, codes);
  } else {
    unpack_plane<kBits, 1>(in, kValues, 0, codes);
  }
}

}  // namespace fewbits
