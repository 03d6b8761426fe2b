// The integer half of the shim for any machine, by the compiler's vectors of 16 bytes. Products are
// taken in 16-bit lanes, even and odd bytes apart, and the two products of a lane are added: the
// same sums as AVX2's maddubs, with the same bounds (see bytes_avx2.inl).

using B = uint8_t __attribute__((vector_size(16)));
using P = int16_t __attribute__((vector_size(16)));
using Words = uint16_t __attribute__((vector_size(16)));
using Bytes4 = int8_t __attribute__((vector_size(4)));
constexpr TileShape kBlockTile = {.tokens = 1, .panels = 1};
constexpr bool kSignedBytes = true;

constexpr int safe_products(int bits) {
  return bits <= 4 ? 8 : bits == 5 ? 4 : bits == 6 ? 2 : 1;
}

inline B load_quads(const uint8_t* in) {
  B quads;
  __builtin_memcpy(&quads, in, sizeof quads);
  return quads;
}
inline void store_quads(uint8_t* out, B quads) {
  __builtin_memcpy(out, &quads, sizeof quads);
}
inline B repeat_quad(const int8_t* in) {
  int32_t quad;
  __builtin_memcpy(&quad, in, sizeof quad);
  return reinterpret_cast<B>(I{quad, quad, quad, quad});
}
inline B repeat_byte(uint8_t value) {
  return B{} + value;
}
template <int kShift>
B shift_right(B bytes) {
  return reinterpret_cast<B>(reinterpret_cast<Words>(bytes) >> kShift);
}
template <int kShift>
B shift_left(B bytes) {
  return reinterpret_cast<B>(reinterpret_cast<Words>(bytes) << kShift);
}
inline B look_up(B codes, const uint8_t (&table)[16]) {
  uint8_t bytes[16];
  __builtin_memcpy(bytes, &codes, sizeof bytes);
  for (uint8_t& byte : bytes) byte = table[byte];
  return load_quads(bytes);
}

template <int kBits>
B operand(B codes) {
  if constexpr (kBits == 8) return codes ^ repeat_byte(0x80);
  return codes;
}
inline P no_products() {
  return P{};
}
constexpr bool kSumsStart = false;
inline P start_products(I) {
  return no_products();
}
inline P even_bytes(B bytes) {
  return reinterpret_cast<P>(reinterpret_cast<Words>(bytes) << 8) >> 8;
}
inline P odd_bytes(B bytes) {
  return reinterpret_cast<P>(bytes) >> 8;
}
template <int kBits>
P multiply_add(P sum, B codes, B inputs) {
  return sum + even_bytes(codes) * even_bytes(inputs) + odd_bytes(codes) * odd_bytes(inputs);
}
inline I widen(P sums) {
  return ((reinterpret_cast<I>(sums) << 16) >> 16) + (reinterpret_cast<I>(sums) >> 16);
}
inline I plus(I a, I b) {
  return a + b;
}
inline I add_products(I sum, B codes, B inputs) {
  return plus(sum, widen(multiply_add<7>(no_products(), codes, inputs)));
}
inline F to_float(I value) {
  return __builtin_convertvector(value, F);
}
inline F bits_as_float(I value) {
  return reinterpret_cast<F>(value);
}
inline I repeat_int(int32_t value) {
  return I{value, value, value, value};
}

inline F load_signed(const int8_t* in) {
  Bytes4 bytes;
  __builtin_memcpy(&bytes, in, sizeof bytes);
  return __builtin_convertvector(bytes, F);
}
inline I load_bytes(const uint8_t* in) {
  return I{in[0], in[1], in[2], in[3]};
}
inline F load_unsigned(const uint8_t* in) {
  return to_float(load_bytes(in));
}
inline F load_low_nibbles(const uint8_t* in) {
  return to_float(load_bytes(in) & 15);
}
inline F load_high_nibbles(const uint8_t* in) {
  return to_float(load_bytes(in) >> 4);
}
inline void store_int8(int8_t* out, F value) {
  const Bytes4 bytes = __builtin_convertvector(__builtin_convertvector(value, I), Bytes4);
  __builtin_memcpy(out, &bytes, sizeof bytes);
}

/// Makes the compiler forget what it knows of a value.
template <class Vector>
void opaque(Vector& value) {
  asm volatile("" : "+m"(value));
}
