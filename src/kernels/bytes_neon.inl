// The integer half of the shim for Arm's products of int8: sdot adds four products of signed bytes
// to 32 bits, exactly. Codes of fewer than 8 bits are signed bytes as they are; from those of 8
// bits 128 is subtracted.

using B = uint8x16_t;
using I = int32x4_t;
using P = int32x4_t;
constexpr bool kSignedBytes = true;

constexpr int safe_products(int) {
  return 8;
}

inline B load_quads(const uint8_t* in) {
  return vld1q_u8(in);
}
inline void store_quads(uint8_t* out, B quads) {
  vst1q_u8(out, quads);
}
inline B repeat_quad(const int8_t* in) {
  int32_t quad;
  __builtin_memcpy(&quad, in, sizeof quad);
  return vreinterpretq_u8_s32(vdupq_n_s32(quad));
}
inline B repeat_byte(uint8_t value) {
  return vdupq_n_u8(value);
}
template <int kShift>
B shift_right(B bytes) {
  if constexpr (kShift == 0) return bytes;
  if constexpr (kShift > 0) return vshrq_n_u8(bytes, kShift);
}
template <int kShift>
B shift_left(B bytes) {
  return vshlq_n_u8(bytes, kShift);
}
inline B look_up(B codes, const uint8_t (&table)[16]) {
  return vqtbl1q_u8(vld1q_u8(table), codes);
}

template <int kBits>
B operand(B codes) {
  if constexpr (kBits == 8) return codes ^ repeat_byte(0x80);
  return codes;
}
inline P no_products() {
  return vdupq_n_s32(0);
}
constexpr bool kSumsStart = true;
inline P start_products(I start) {
  return start;
}
template <int kBits>
P multiply_add(P sum, B codes, B inputs) {
  return vdotq_s32(sum, vreinterpretq_s8_u8(codes), vreinterpretq_s8_u8(inputs));
}
inline I widen(P sums) {
  return sums;
}
inline I plus(I a, I b) {
  return vaddq_s32(a, b);
}
inline I add_products(I sum, B codes, B inputs) {
  return multiply_add<7>(sum, codes, inputs);
}
inline F to_float(I value) {
  return vcvtq_f32_s32(value);
}
inline F bits_as_float(I value) {
  return vreinterpretq_f32_s32(value);
}
inline I repeat_int(int32_t value) {
  return vdupq_n_s32(value);
}

inline F load_signed(const int8_t* in) {
  const int32x4_t up = vreinterpretq_s32_u32(vshlq_n_u32(widen_bytes(in), 24));
  return to_float(vshrq_n_s32(up, 24));
}
inline F load_unsigned(const uint8_t* in) {
  return vcvtq_f32_u32(widen_bytes(in));
}
inline F load_low_nibbles(const uint8_t* in) {
  return vcvtq_f32_u32(vandq_u32(widen_bytes(in), vdupq_n_u32(15)));
}
inline F load_high_nibbles(const uint8_t* in) {
  return vcvtq_f32_u32(vshrq_n_u32(widen_bytes(in), 4));
}
inline void store_int8(int8_t* out, F value) {
  const int16x4_t words = vqmovn_s32(vcvtq_s32_f32(value));
  const int32x2_t quads = vreinterpret_s32_s8(vqmovn_s16(vcombine_s16(words, words)));
  const int32_t quad = vget_lane_s32(quads, 0);
  __builtin_memcpy(out, &quad, sizeof quad);
}

/// Makes the compiler forget what it knows of a value.
template <class Vector>
void opaque(Vector& value) {
  asm volatile("" : "+w"(value));
}
