// The text of all kernels. An instruction-set file defines the shim below inside an anonymous
// namespace, includes this file there, and fills its table with `make_table`.
//
// clang-format off
//
// F is a vector of kLanes floats with the usual operators.
//
//   F load(const float*), store(float*, F), broadcast(float)    unaligned
//   F load_half(const uint16_t*), store_half(uint16_t*, F)      IEEE halves, to nearest even
//   F load_bfloat(const uint16_t*)
//   F load_signed(const int8_t*)
//   F load_unsigned, load_low_nibbles, load_high_nibbles(const uint8_t*)
//   void store_int8(int8_t*, F)                   integral values from -128 to 127
//   F fma(a, b, c), bool kFused                   a * b + c, and whether that is rounded once
//   F maximum(a, b), minimum(a, b)                b where either is NaN
//   float sum(F), largest(F)                      over the lanes, in a fixed order
//   F round_even(F)                               nearest integer; |x| < 2^22
//   F power_of_two(F)                             2^n for integral n from -126 to 127
//   F zero_below(F value, F x, float limit)       value where x >= limit or x is NaN, else 0
//   transpose(F (&)[kLanes])                      a square of kLanes x kLanes
//   TileShape kFloatTile                          as large as registers allow, divides kSideBySide
//   U load_codes(const uint8_t*)                  kLanes bytes as lanes of 32 bits; U has << >> & |
//   Levels load_levels(const float (&)[16])       a table, and
//   F pick(Levels, U)                             its entries
//
// B is a quad of kLanes rows (4 kLanes bytes) with | & ^; I, kLanes int32; P, partial sums.
//
//   B load_quads(const uint8_t*), store_quads(uint8_t*, B), repeat_quad(const int8_t*)
//   B repeat_byte(uint8_t)
//   B shift_right<n>(B), shift_left<n>(B)         n < 8; the caller masks off what crossed bytes
//   B look_up(B, const uint8_t (&)[16])
//   B operand<bits>(B codes)                      codes in the form that multiply_add wants
//   bool kSignedBytes                             operand<8> is code - 128: no zero to subtract
//   P no_products(), multiply_add<bits>(P, B operand, B inputs)   adds products within each quad
//   bool kSumsStart, P start_products(I)          sums of products may start from any int32
//   int safe_products(bits)                       how many multiply_add cannot overflow a P
//   I widen(P), plus(I, I), repeat_int(int32_t)
//   F to_float(I), bits_as_float(I)
//   bool kSplitSigns, magnitude, sign_mask, multiply_split, split_start, load_ints, store_ints
//                                                 see bytes_avx2.inl; others: whole_signs.inl
//   bool kTokenPairs, row_pairs, token_pair, multiply_pairs, first_token, second_token
//                                           see token_pairs_i8mm.inl; others: single_tokens.inl
//   I add_products(I, B codes, B inputs)          for codes of seven bits, as fast as can be
//   void opaque(V&)                               the compiler forgets what it knows of the value
//   TileShape kBlockTile, kSplitTile              of the block product; where signs are split
//
// clang-format on
//
// Nothing here includes a standard header: whatever is inline in one would become a weak symbol
// compiled for this instruction set, and the linker might pick it for every caller.

#include "kernels/vector_ops.inl"
//
#include "kernels/ahead.inl"
//
#include "kernels/float_panel.inl"
//
#include "kernels/kv_decode.inl"
//
#include "kernels/attention.inl"
//
#include "kernels/quantize_inputs.inl"
//
#include "kernels/block_codes.inl"
//
#include "kernels/block_sums.inl"
//
#include "kernels/block_dot.inl"
//
#include "kernels/block_panel.inl"
//
#include "kernels/block_dots.inl"
//
#include "kernels/probes.inl"

template <int kIndex>
constexpr void add_block_kernels(KernelTable& table) {
  if constexpr (kIndex < kBlockLayoutCount) {
    table.blocks[kIndex] = {block_dot<kIndex>, block_dots_for<kIndex>(), unpack_panel<kIndex>,
                            block_product_for<kIndex>()};
    add_block_kernels<kIndex + 1>(table);
  }
}

constexpr KernelTable make_table(const char* name) {
  KernelTable table = {
      .name = name,
      .halves_to_floats = halves_to_floats,
      .floats_to_halves = floats_to_halves,
      .bfloats_to_floats = bfloats_to_floats,
      .dot = dot,
      .rms_norm = rms_norm,
      .layer_norm = layer_norm,
      .softmax = softmax,
      .silu_multiply = silu_multiply,
      .gelu = gelu,
      .gelu_tanh = gelu_tanh,
      .silu = silu,
      .relu = relu,
      .soft_cap = soft_cap,
      .multiply = multiply,
      .add_scaled = add_scaled,
      .add = add,
      .rope_halves = rope_halves,
      .attend = attend,
      .decode_keys = decode_keys,
      .decode_values = decode_values,
      .float_tile_tokens = kFloatTile.tokens,
      .float_panel = contiguous_panel<float>,
      .half_panel = contiguous_panel<uint16_t>,
      .bfloat_panel = contiguous_panel<BFloat>,
      .lay_side_by_side = lay_side_by_side,
      .float_strip = float_strip,
      .quantize_inputs = quantize_inputs,
      .start_sums = start_sums,
      .blocks = {},
      .dot_tokens = kDotTokens,
      .probe_fma = probe_fma,
      .probe_int8 = probe_int8,
      .probe_read = probe_read,
  };
  add_block_kernels<0>(table);
  return table;
}
