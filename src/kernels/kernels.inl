// The text of all kernels. An instruction-set file defines the shim below inside an anonymous
// namespace, includes this file there, and fills its table with `make_table`.
//
// The shim: F, a vector of kLanes floats with the usual operators, and
//
//   F load(const float*), store(float*, F), broadcast(float)      unaligned
//   F load_half(const uint16_t*), store_half(uint16_t*, F)        kLanes IEEE halves, to nearest
//   even F load_bfloat(const uint16_t*) F fma(a, b, c)             a * b + c, fused where the
//   machine can F maximum(a, b)            b where either is NaN F minimum(a, b)            b where
//   either is NaN float sum(F), largest(F)   over the lanes, in a fixed order F round_even(F)
//   nearest integer; |x| < 2^22 F power_of_two(F)          2^n for integral n from -126 to 127 F
//   zero_below(value, x, limit)     value where x >= limit or x is NaN, else 0 constexpr int
//   kTileTokens  tokens in a tile of the float product: as many as registers allow
//
// Nothing here includes a standard header: whatever is inline in one would become a weak symbol
// compiled for this instruction set, and the linker might pick it for every caller.

#include "kernels/vector_ops.inl"
//
#include "kernels/float_panel.inl"
//
#include "kernels/attention.inl"

constexpr KernelTable make_table(const char* name) {
  return {
      .name = name,
      .halves_to_floats = halves_to_floats,
      .floats_to_halves = floats_to_halves,
      .bfloats_to_floats = bfloats_to_floats,
      .dot = dot,
      .rms_norm = rms_norm,
      .softmax = softmax,
      .silu_multiply = silu_multiply,
      .add = add,
      .rope_halves = rope_halves,
      .attend = attend,
      .float_panel = float_panel,
  };
}
