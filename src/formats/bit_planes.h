#pragma once

#include <cstddef>
#include <cstdint>

// How every packed format lays out the bits of its codes. A "plane" holds kBits bits of each code;
// byte l of a chunk holds those of the codes l, l + kStride, l + 2 kStride, ..., lowest bits first,
// so that one shift and one mask give kStride consecutive values:
//
//     kBits = 4, kStride = 16     byte l:  [ code l+16 | code l ]                       Q4_0 and
//     all 32-blocks kBits = 2, kStride = 32     byte l:  [ code l+96 | l+64 | l+32 | code l ]
//     K-quants kBits = 1, kStride = 1      byte 0:  code 7 ... code 0 fifth bits of Q5_0
//
// A code wider than one plane is split: `shift` is the position of the plane's bits within the
// code.
namespace fewbits {

inline const uint8_t* as_bytes(const std::byte* block) {
  return reinterpret_cast<const uint8_t*>(block);
}
inline uint8_t* as_bytes(std::byte* block) {
  return reinterpret_cast<uint8_t*>(block);
}

inline uint16_t load_half(const std::byte* at) {
  return static_cast<uint16_t>(as_bytes(at)[0] | as_bytes(at)[1] << 8);
}
inline void store_half(uint16_t half, std::byte* at) {
  as_bytes(at)[0] = static_cast<uint8_t>(half & 0xff);
  as_bytes(at)[1] = static_cast<uint8_t>(half >> 8);
}

template <int kBits, int kStride>
void pack_plane(const uint8_t* codes, int count, int shift, std::byte* out) {
  constexpr int kPerByte = 8 / kBits;
  constexpr unsigned kMask = (1u << kBits) - 1;
  uint8_t* bytes = as_bytes(out);
  for (int chunk = 0; chunk < count; chunk += kPerByte * kStride, bytes += kStride) {
    for (int l = 0; l < kStride; ++l) {
      unsigned byte = 0;
      for (int k = 0; k < kPerByte; ++k) {
        byte |= ((codes[chunk + k * kStride + l] >> shift) & kMask) << (kBits * k);
      }
      bytes[l] = static_cast<uint8_t>(byte);
    }
  }
}

/// Adds a plane's bits to codes that so far hold the lower planes. The first plane (shift 0) starts
/// them.
template <int kBits, int kStride>
void unpack_plane(const std::byte* in, int count, int shift, uint8_t* codes) {
  constexpr int kPerByte = 8 / kBits;
  constexpr unsigned kMask = (1u << kBits) - 1;
  const uint8_t* bytes = as_bytes(in);
  for (int chunk = 0; chunk < count; chunk += kPerByte * kStride, bytes += kStride) {
    for (int k = 0; k < kPerByte; ++k) {
      uint8_t* code = codes + chunk + k * kStride;
      for (int l = 0; l < kStride; ++l) {
        const unsigned bits = ((bytes[l] >> (kBits * k)) & kMask) << shift;
        code[l] = static_cast<uint8_t>(shift == 0 ? bits : code[l] | bits);
      }
    }
  }
}

}  // namespace fewbits
