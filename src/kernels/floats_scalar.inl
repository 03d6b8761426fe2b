// The float half of the shim for any machine: vectors of four by the compiler's own vector type,
// which gcc and clang turn into whatever the target has (SSE2, NEON, plain registers).

using F = float __attribute__((vector_size(16)));
using I = int32_t __attribute__((vector_size(16)));
using U = uint32_t __attribute__((vector_size(16)));
using Halves = uint16_t __attribute__((vector_size(8)));
constexpr int kLanes = 4;
// 8 sums, 4 rows, 1 input: 13 of 16 registers
constexpr TileShape kFloatTile = {.tokens = 2, .panels = 1};

inline F load(const float* in) {
  F value;
  __builtin_memcpy(&value, in, sizeof value);
  return value;
}
inline void store(float* out, F value) {
  __builtin_memcpy(out, &value, sizeof value);
}
inline F broadcast(float value) {
  return F{value, value, value, value};
}
constexpr bool kFused = false;
inline F fma(F a, F b, F c) {
  return a * b + c;
}
inline F select(I mask, F yes, F no) {
  return reinterpret_cast<F>((reinterpret_cast<I>(yes) & mask) | (reinterpret_cast<I>(no) & ~mask));
}
inline F maximum(F a, F b) {
  return select(a > b, a, b);
}
inline F minimum(F a, F b) {
  return select(a < b, a, b);
}

inline U load_words(const uint16_t* in) {
  Halves words;
  __builtin_memcpy(&words, in, sizeof words);
  return __builtin_convertvector(words, U);
}

/// The bits of a half's magnitude, moved into place, are a float that is 2^112 too small,
/// subnormals included.
inline F load_half(const uint16_t* in) {
  const U bits = load_words(in);
  const U magnitude = (bits & 0x7fffu) << 13;
  const U scaled = reinterpret_cast<U>(reinterpret_cast<F>(magnitude) * broadcast(0x1p112f));
  const U special =
      reinterpret_cast<U>(magnitude >= 0x0f800000u) & 0x7f800000u;  // infinity and NaN
  return reinterpret_cast<F>(scaled | special | ((bits & 0x8000u) << 16));
}
inline F load_bfloat(const uint16_t* in) {
  return reinterpret_cast<F>(load_words(in) << 16);
}

inline uint16_t half_of(float value) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u);
  if (magnitude >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);
  if (magnitude <
      0x38800000u) {  // below 2^-14: adding 0.5 puts the subnormal's bits in place, rounded
    float shifted;
    __builtin_memcpy(&shifted, &magnitude, sizeof shifted);
    shifted += 0.5f;
    __builtin_memcpy(&bits, &shifted, sizeof bits);
    return static_cast<uint16_t>(sign | (bits - 0x3f000000u));
  }
  const uint32_t odd = (magnitude >> 13) & 1u;
  return static_cast<uint16_t>(sign | ((magnitude - 0x38000000u + 0xfffu + odd) >> 13));
}
inline void store_half(uint16_t* out, F value) {
  for (int i = 0; i < kLanes; ++i) out[i] = half_of(value[i]);
}

inline float sum(F value) {
  return (value[0] + value[2]) + (value[1] + value[3]);
}
inline float largest(F value) {
  const float low = value[0] > value[1] ? value[0] : value[1];
  const float high = value[2] > value[3] ? value[2] : value[3];
  return low > high ? low : high;
}

/// The sum has no bits left for a fraction.
inline F round_even(F value) {
  const F shifter = broadcast(12582912.0f);  // 1.5 * 2^23
  return (value + shifter) - shifter;
}
inline F power_of_two(F n) {
  return reinterpret_cast<F>((__builtin_convertvector(n, I) + 127) << 23);
}
inline F zero_below(F value, F x, float limit) {
  return reinterpret_cast<F>(reinterpret_cast<I>(value) & ~(x < broadcast(limit)));
}

inline void transpose(F (&rows)[kLanes]) {
  const F a = rows[0], b = rows[1], c = rows[2], d = rows[3];
  for (int i = 0; i < kLanes; ++i) rows[i] = F{a[i], b[i], c[i], d[i]};
}

/// A table of sixteen floats to look codes up in.
struct Levels {
  const float* values;
};

inline U load_codes(const uint8_t* in) {
  return U{in[0], in[1], in[2], in[3]};
}
inline Levels load_levels(const float (&levels)[16]) {
  return {levels};
}
inline F pick(Levels levels, U codes) {
  const float* values = levels.values;
  return F{values[codes[0]], values[codes[1]], values[codes[2]], values[codes[3]]};
}
