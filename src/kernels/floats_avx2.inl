// The float half of the shim for AVX2 with FMA and F16C.

using F = __m256;
constexpr int kLanes = 8;
// 12 sums, 2 rows, 1 input: 15 of 16 registers
constexpr TileShape kFloatTile = {.tokens = 6, .panels = 1};

inline F load(const float* in) {
  return _mm256_loadu_ps(in);
}
inline void store(float* out, F value) {
  _mm256_storeu_ps(out, value);
}
inline F broadcast(float value) {
  return _mm256_set1_ps(value);
}
constexpr bool kFused = true;
inline F fma(F a, F b, F c) {
  return _mm256_fmadd_ps(a, b, c);
}
inline F maximum(F a, F b) {
  return _mm256_max_ps(a, b);
}
inline F minimum(F a, F b) {
  return _mm256_min_ps(a, b);
}

inline F load_half(const uint16_t* in) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(in)));
}
inline void store_half(uint16_t* out, F value) {
  const __m128i halves = _mm256_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), halves);
}
inline F load_bfloat(const uint16_t* in) {
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}

inline float sum(F value) {
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(value), _mm256_extractf128_ps(value, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
inline float largest(F value) {
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(value), _mm256_extractf128_ps(value, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

inline F round_even(F value) {
  return _mm256_round_ps(value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
inline F power_of_two(F n) {
  const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
  return _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23));
}
inline F zero_below(F value, F x, float limit) {
  return _mm256_and_ps(value, _mm256_cmp_ps(x, broadcast(limit), _CMP_NLT_UQ));
}

/// 8 x 8: neighbours of two, of four, then the halves of the registers.
inline void transpose(F (&rows)[kLanes]) {
  F pairs[kLanes], quads[kLanes];
  for (int i = 0; i < 8; i += 2) {
    pairs[i] = _mm256_unpacklo_ps(rows[i], rows[i + 1]);
    pairs[i + 1] = _mm256_unpackhi_ps(rows[i], rows[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    for (int j = 0; j < 2; ++j) {
      quads[i + 2 * j] = _mm256_shuffle_ps(pairs[i + j], pairs[i + j + 2], 0x44);
      quads[i + 2 * j + 1] = _mm256_shuffle_ps(pairs[i + j], pairs[i + j + 2], 0xee);
    }
  }
  for (int i = 0; i < 4; ++i) {
    rows[i] = _mm256_permute2f128_ps(quads[i], quads[i + 4], 0x20);
    rows[i + 4] = _mm256_permute2f128_ps(quads[i], quads[i + 4], 0x31);
  }
}

/// Codes as lanes of 32 bits, and a table of sixteen floats to look them up in.
using U = uint32_t __attribute__((vector_size(32)));
struct Levels {
  F low, high;
};

inline U load_codes(const uint8_t* in) {
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(in));
  return reinterpret_cast<U>(_mm256_cvtepu8_epi32(bytes));
}
inline Levels load_levels(const float (&levels)[16]) {
  return {_mm256_loadu_ps(levels), _mm256_loadu_ps(levels + 8)};
}
inline F pick(const Levels& levels, U codes) {
  const auto index = reinterpret_cast<__m256i>(codes);
  const F low = _mm256_permutevar8x32_ps(levels.low, index);
  const F high = _mm256_permutevar8x32_ps(levels.high, index);
  return _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(index, 28)));
}
