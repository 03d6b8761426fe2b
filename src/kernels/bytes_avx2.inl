// The integer half of the shim for AVX2: maddubs (unsigned codes times signed inputs, neighbours
// added to 16 bits).
//
// Why nothing saturates or overflows 16 bits. Inputs are from -127 to 127. A pair of products with
// codes of n bits is at most 2 * (2^n - 1) * 127 in magnitude: 4 bits 3810, 5 bits 7874, 6 bits
// 16002; so 8, 4 and 2 of them stay below 32767 (30480, 31496, 32004). Bytes of 8 bits are made
// signed (-128 to 127) and multiplied as |code| times the input with the code's sign: 2 * 128 * 127
// = 32512, one at a time.

// 6 partial sums, 6 results, 2 rows, 1 input
constexpr TileShape kBlockTile = {.tokens = 3, .panels = 1};
constexpr bool kSignedBytes = true;

constexpr int safe_products(int bits) {
  return bits <= 4 ? 8 : bits == 5 ? 4 : bits == 6 ? 2 : 1;
}

template <int kBits>
B operand(B codes) {
  if constexpr (kBits == 8) return codes ^ repeat_byte(0x80);
  return codes;
}
inline P no_products() {
  return _mm256_setzero_si256();
}
constexpr bool kSumsStart = false;
inline P start_products(I) {
  return no_products();
}
/// Keeps the compiler from putting off an addition: gcc otherwise does all products of a tile first
/// and runs out of registers (half the speed).
inline P in_order(P value) {
  asm("" : "+x"(value));
  return value;
}
/// The same in place: where gcc may choose the register of a sum that a loop carries, it copies it
/// back each time.
inline I plus_in_order(I sum, I products) {
  asm("vpaddd %1, %0, %0" : "+x"(sum) : "x"(products));
  return sum;
}

template <int kBits>
P multiply_add(P sum, B codes, B inputs) {
  if constexpr (kBits == 8) {
    return in_order(_mm256_add_epi16(
        sum, _mm256_maddubs_epi16(_mm256_abs_epi8(codes), _mm256_sign_epi8(inputs, codes))));
  }
  return in_order(_mm256_add_epi16(sum, _mm256_maddubs_epi16(codes, inputs)));
}
// For tiles the signs of bytes are split off: with m = -1 where the code is negative and 0
// elsewhere, the input with the code's sign is (input ^ m) - m, so
//
//     code * input = |code| * (input ^ m) + (code < 0 ? |code| : 0)
//
// and the second part is added up once for each row. That saves an instruction for each product,
// and one that only two of three units can do. Four tokens share the loads of magnitudes and signs,
// 8 sums, 4 of these, 1 input, 2 on their way and a one for widening; results wait in memory, which
// costs less than the loads that it saves. Bounds: input ^ m is from -128 to 127, and -128 only
// comes from 127; 2 * 127 * -128 = -32512. A code of -128 has m = -1: 2 * 128 * -128 = -32768, just
// inside.
constexpr bool kSplitSigns = true;
constexpr TileShape kSplitTile = {.tokens = 4, .panels = 1};
inline B magnitude(B codes) {
  return _mm256_abs_epi8(codes);
}
inline B sign_mask(B codes) {
  return _mm256_cmpgt_epi8(_mm256_setzero_si256(), codes);
}
inline P multiply_split(B magnitudes, B inputs, B mask) {
  return _mm256_maddubs_epi16(magnitudes, inputs ^ mask);
}

inline I widen(P sums) {
  return _mm256_madd_epi16(sums, _mm256_set1_epi16(1));
}
inline I add_products(I sum, B codes, B inputs) {
  return plus(sum, widen(multiply_add<7>(no_products(), codes, inputs)));
}
inline I split_start(B codes) {
  return widen(_mm256_maddubs_epi16(magnitude(codes) & sign_mask(codes), repeat_byte(1)));
}
inline I load_ints(const int32_t* in) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in));
}
inline void store_ints(int32_t* out, I value) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), value);
}
