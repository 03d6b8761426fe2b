// Bytes and integers in 256 bits: what AVX2 and AVX-VNNI have in common.

using B = __m256i;
using I = __m256i;
using P = __m256i;

inline B load_quads(const uint8_t* in) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in));
}
inline void store_quads(uint8_t* out, B quads) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), quads);
}
inline B repeat_quad(const int8_t* in) {
  int32_t quad;
  __builtin_memcpy(&quad, in, sizeof quad);
  return _mm256_set1_epi32(quad);
}
inline B repeat_byte(uint8_t value) {
  return _mm256_set1_epi8(static_cast<char>(value));
}
template <int kShift>
B shift_right(B bytes) {
  return _mm256_srli_epi16(bytes, kShift);
}
template <int kShift>
B shift_left(B bytes) {
  return _mm256_slli_epi16(bytes, kShift);
}
inline B look_up(B codes, const uint8_t (&table)[16]) {
  const __m128i entries = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table));
  return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(entries), codes);
}

inline I plus(I a, I b) {
  return _mm256_add_epi32(a, b);
}
inline F to_float(I value) {
  return _mm256_cvtepi32_ps(value);
}
inline F bits_as_float(I value) {
  return _mm256_castsi256_ps(value);
}
inline I repeat_int(int32_t value) {
  return _mm256_set1_epi32(value);
}

inline __m128i load_8_bytes(const void* in) {
  return _mm_loadl_epi64(static_cast<const __m128i*>(in));
}
inline F load_signed(const int8_t* in) {
  return to_float(_mm256_cvtepi8_epi32(load_8_bytes(in)));
}
inline F load_unsigned(const uint8_t* in) {
  return to_float(_mm256_cvtepu8_epi32(load_8_bytes(in)));
}
inline F load_low_nibbles(const uint8_t* in) {
  return to_float(_mm256_and_si256(_mm256_cvtepu8_epi32(load_8_bytes(in)), _mm256_set1_epi32(15)));
}
inline F load_high_nibbles(const uint8_t* in) {
  return to_float(_mm256_srli_epi32(_mm256_cvtepu8_epi32(load_8_bytes(in)), 4));
}
inline void store_int8(int8_t* out, F value) {
  const __m256i wide = _mm256_cvtps_epi32(value);
  const __m128i words =
      _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(out), _mm_packs_epi16(words, words));
}

/// Makes the compiler forget what it knows of a value.
template <class Vector>
void opaque(Vector& value) {
  asm volatile("" : "+x"(value));
}
