// Products for AVX-VNNI, which processors without AVX-512 have: vpdpbusd in 256 bits adds four
// products of unsigned codes and signed inputs to 32 bits, exactly. As with AVX-512, codes of 8
// bits stay unsigned, and their zero point 128 is subtracted by way of the inputs' sum.

// 6 sums, 6 results, 2 rows, 1 input
constexpr TileShape kBlockTile = {.tokens = 3, .panels = 1};
constexpr bool kSignedBytes = false;

constexpr int safe_products(int) {
  return 8;
}

template <int kBits>
B operand(B codes) {
  return codes;
}
inline P no_products() {
  return _mm256_setzero_si256();
}
/// In place: where gcc may choose the register of a sum that a loop carries, it copies it back each
/// time.
inline P add_products(P sum, B codes, B inputs) {
  asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(codes), "x"(inputs));
  return sum;
}
template <int kBits>
P multiply_add(P sum, B codes, B inputs) {
  return add_products(sum, codes, inputs);
}
inline I widen(P sums) {
  return sums;
}
