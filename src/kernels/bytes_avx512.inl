// The integer half of the shim for AVX-512 VNNI, but for what vnni_products.inl has.

using B = __m512i;
using I = __m512i;
using P = __m512i;
constexpr TileShape kBlockTile = {.tokens = 6, .panels = 2};  // 12 sums, 12 results, 2 rows

inline B load_quads(const uint8_t* in) {
  return _mm512_loadu_si512(in);
}
inline void store_quads(uint8_t* out, B quads) {
  _mm512_storeu_si512(out, quads);
}
inline B repeat_quad(const int8_t* in) {
  int32_t quad;
  __builtin_memcpy(&quad, in, sizeof quad);
  return _mm512_set1_epi32(quad);
}
inline B repeat_byte(uint8_t value) {
  return _mm512_set1_epi8(static_cast<char>(value));
}
template <int kShift>
B shift_right(B bytes) {
  return _mm512_srli_epi16(bytes, kShift);
}
template <int kShift>
B shift_left(B bytes) {
  return _mm512_slli_epi16(bytes, kShift);
}
inline B look_up(B codes, const uint8_t (&table)[16]) {
  const __m128i entries = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table));
  return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(entries), codes);
}

inline P no_products() {
  return _mm512_setzero_si512();
}
inline I plus(I a, I b) {
  return _mm512_add_epi32(a, b);
}
inline I add_products(I sum, B codes, B inputs) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(codes), "v"(inputs));
  return sum;
}
inline F to_float(I value) {
  return _mm512_cvtepi32_ps(value);
}
inline F bits_as_float(I value) {
  return _mm512_castsi512_ps(value);
}
inline I repeat_int(int32_t value) {
  return _mm512_set1_epi32(value);
}

inline __m128i load_16_bytes(const void* in) {
  return _mm_loadu_si128(static_cast<const __m128i*>(in));
}
inline F load_signed(const int8_t* in) {
  return to_float(_mm512_cvtepi8_epi32(load_16_bytes(in)));
}
inline F load_unsigned(const uint8_t* in) {
  return to_float(_mm512_cvtepu8_epi32(load_16_bytes(in)));
}
inline F load_low_nibbles(const uint8_t* in) {
  return to_float(_mm512_and_si512(_mm512_cvtepu8_epi32(load_16_bytes(in)), _mm512_set1_epi32(15)));
}
inline F load_high_nibbles(const uint8_t* in) {
  return to_float(_mm512_srli_epi32(_mm512_cvtepu8_epi32(load_16_bytes(in)), 4));
}
inline void store_int8(int8_t* out, F value) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out),
                   _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(value)));
}

/// Makes the compiler forget what it knows of a value.
template <class Vector>
void opaque(Vector& value) {
  asm volatile("" : "+v"(value));
}
