// Products for AVX-VNNI, which processors without AVX-512 have: vpdpbusd in 256 bits.

// 6 sums, 6 results, 2 rows, 1 input
constexpr TileShape kBlockTile = {.tokens = 3, .panels = 1};

inline P no_products() {
  return _mm256_setzero_si256();
}
/// In place: where gcc may choose the register of a sum that a loop carries, it copies it back each
/// time.
inline P add_products(P sum, B codes, B inputs) {
  asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(codes), "x"(inputs));
  return sum;
}
