// What instruction sets with vpdpbusd have in common: it adds four products of unsigned codes and
// signed inputs to 32 bits, exactly. So codes of 8 bits stay unsigned, and their zero point 128 is
// subtracted by way of the inputs' sum.

constexpr bool kSignedBytes = false;

constexpr int safe_products(int) {
  return 8;
}
template <int kBits>
B operand(B codes) {
  return codes;
}
template <int kBits>
P multiply_add(P sum, B codes, B inputs) {
  return add_products(sum, codes, inputs);
}
constexpr bool kSumsStart = true;
inline P start_products(I start) {
  return start;
}
inline I widen(P sums) {
  return sums;
}
