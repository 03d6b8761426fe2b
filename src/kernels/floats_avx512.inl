// The float half of the shim for AVX-512 (F, BW, VL, DQ).

using F = __m512;
constexpr int kLanes = 16;
// 24 sums, 2 rows, 1 input: 27 of 32 registers
constexpr TileShape kFloatTile = {.tokens = 12, .panels = 2};

inline F load(const float* in) {
  return _mm512_loadu_ps(in);
}
inline void store(float* out, F value) {
  _mm512_storeu_ps(out, value);
}
inline F broadcast(float value) {
  return _mm512_set1_ps(value);
}
constexpr bool kFused = true;
inline F fma(F a, F b, F c) {
  return _mm512_fmadd_ps(a, b, c);
}
inline F maximum(F a, F b) {
  return _mm512_max_ps(a, b);
}
inline F minimum(F a, F b) {
  return _mm512_min_ps(a, b);
}

inline F load_half(const uint16_t* in) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(in)));
}
inline void store_half(uint16_t* out, F value) {
  const __m256i halves = _mm512_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), halves);
}
inline F load_bfloat(const uint16_t* in) {
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

inline float sum(F value) {
  return _mm512_reduce_add_ps(value);
}
inline float largest(F value) {
  return _mm512_reduce_max_ps(value);
}

inline F round_even(F value) {
  return _mm512_roundscale_ps(value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
inline F power_of_two(F n) {
  const __m512i exponent = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
  return _mm512_castsi512_ps(_mm512_slli_epi32(exponent, 23));
}
inline F zero_below(F value, F x, float limit) {
  return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, broadcast(limit), _CMP_NLT_UQ), value);
}

/// 16 x 16: neighbours of two, of four, then the quarters of the registers, twice.
inline void transpose(F (&rows)[kLanes]) {
  F pairs[kLanes], quads[kLanes], halves[kLanes];
  for (int i = 0; i < 16; i += 2) {
    pairs[i] = _mm512_unpacklo_ps(rows[i], rows[i + 1]);
    pairs[i + 1] = _mm512_unpackhi_ps(rows[i], rows[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    for (int j = 0; j < 2; ++j) {
      quads[i + 2 * j] = _mm512_shuffle_ps(pairs[i + j], pairs[i + j + 2], 0x44);
      quads[i + 2 * j + 1] = _mm512_shuffle_ps(pairs[i + j], pairs[i + j + 2], 0xee);
    }
  }
  // quads[4 g + c]: columns c, c + 4, c + 8, c + 12 of the rows 4 g to 4 g + 3, a quarter each.
  for (int c = 0; c < 4; ++c) {
    halves[c] = _mm512_shuffle_f32x4(quads[c], quads[c + 4], 0x88);
    halves[c + 4] = _mm512_shuffle_f32x4(quads[c], quads[c + 4], 0xdd);
    halves[c + 8] = _mm512_shuffle_f32x4(quads[c + 8], quads[c + 12], 0x88);
    halves[c + 12] = _mm512_shuffle_f32x4(quads[c + 8], quads[c + 12], 0xdd);
  }
  for (int c = 0; c < 4; ++c) {
    rows[c] = _mm512_shuffle_f32x4(halves[c], halves[c + 8], 0x88);
    rows[c + 4] = _mm512_shuffle_f32x4(halves[c + 4], halves[c + 12], 0x88);
    rows[c + 8] = _mm512_shuffle_f32x4(halves[c], halves[c + 8], 0xdd);
    rows[c + 12] = _mm512_shuffle_f32x4(halves[c + 4], halves[c + 12], 0xdd);
  }
}

/// Codes as lanes of 32 bits, and a table of sixteen floats to look them up in.
using U = uint32_t __attribute__((vector_size(64)));
using Levels = __m512;

inline U load_codes(const uint8_t* in) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in));
  return reinterpret_cast<U>(_mm512_cvtepu8_epi32(bytes));
}
inline Levels load_levels(const float (&levels)[16]) {
  return _mm512_loadu_ps(levels);
}
inline F pick(Levels levels, U codes) {
  return _mm512_permutexvar_ps(reinterpret_cast<__m512i>(codes), levels);
}
