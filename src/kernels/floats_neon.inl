// The float half of the shim for NEON, as every 64-bit Arm has it.

using F = float32x4_t;
using U = uint32x4_t;
constexpr int kLanes = 4;
// 24 sums, 4 rows, 1 input: 29 of 32 registers
constexpr TileShape kFloatTile = {.tokens = 6, .panels = 1};

inline F load(const float* in) {
  return vld1q_f32(in);
}
inline void store(float* out, F value) {
  vst1q_f32(out, value);
}
inline F broadcast(float value) {
  return vdupq_n_f32(value);
}
constexpr bool kFused = true;
inline F fma(F a, F b, F c) {
  return vfmaq_f32(c, a, b);
}
// Not vmaxq and vminq, which give NaN where either is one.
inline F maximum(F a, F b) {
  return vbslq_f32(vcgtq_f32(a, b), a, b);
}
inline F minimum(F a, F b) {
  return vbslq_f32(vcltq_f32(a, b), a, b);
}

inline F load_half(const uint16_t* in) {
  return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(in)));
}
inline void store_half(uint16_t* out, F value) {
  vst1_u16(out, vreinterpret_u16_f16(vcvt_f16_f32(value)));
}
inline F load_bfloat(const uint16_t* in) {
  return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(in), 16));
}

inline float sum(F value) {
  const float32x2_t two = vadd_f32(vget_low_f32(value), vget_high_f32(value));
  return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}
inline float largest(F value) {
  const float32x2_t low = vget_low_f32(value), high = vget_high_f32(value);
  const float32x2_t two = vbsl_f32(vcgt_f32(low, high), low, high);
  const float a = vget_lane_f32(two, 0), b = vget_lane_f32(two, 1);
  return a > b ? a : b;
}

inline F round_even(F value) {
  return vrndnq_f32(value);
}
inline F power_of_two(F n) {
  return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127)), 23));
}
inline F zero_below(F value, F x, float limit) {
  const U below = vcltq_f32(x, broadcast(limit));
  return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(value), below));
}

/// 4 x 4: neighbours of two, then the halves of the registers.
inline void transpose(F (&rows)[kLanes]) {
  float64x2_t pairs[kLanes];
  for (int i = 0; i < kLanes; i += 2) {
    pairs[i] = vreinterpretq_f64_f32(vtrn1q_f32(rows[i], rows[i + 1]));
    pairs[i + 1] = vreinterpretq_f64_f32(vtrn2q_f32(rows[i], rows[i + 1]));
  }
  for (int i = 0; i < 2; ++i) {
    rows[i] = vreinterpretq_f32_f64(vtrn1q_f64(pairs[i], pairs[i + 2]));
    rows[i + 2] = vreinterpretq_f32_f64(vtrn2q_f64(pairs[i], pairs[i + 2]));
  }
}

/// Four bytes as lanes of 32 bits.
inline U widen_bytes(const void* in) {
  uint32_t bytes;
  __builtin_memcpy(&bytes, in, sizeof bytes);
  return vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(bytes))));
}

/// A table of sixteen floats to look codes up in, by the four bytes of each.
struct Levels {
  uint8x16x4_t bytes;
};

inline U load_codes(const uint8_t* in) {
  return widen_bytes(in);
}
inline Levels load_levels(const float (&levels)[16]) {
  return {vld1q_u8_x4(reinterpret_cast<const uint8_t*>(levels))};
}
inline F pick(const Levels& levels, U codes) {
  const U first_bytes = vmulq_n_u32(codes, 0x04040404u);
  const U indices = vaddq_u32(first_bytes, vdupq_n_u32(0x03020100u));
  return vreinterpretq_f32_u8(vqtbl4q_u8(levels.bytes, vreinterpretq_u8_u32(indices)));
}
