// With i8mm the panels of many tokens are multiplied by smmla, which takes two rows and two tokens
// at once, eight values deep.

// Rows 0 and 1 of four, then rows 2 and 3, eight values of each. A product with two tokens has
// row 0 with both, then row 1 with both.
struct RowPairs {
  B first, last;
};
constexpr bool kTokenPairs = true;
// 16 sums, 8 rows, 2 inputs; the results wait in memory
constexpr TileShape kBlockTile = {.tokens = 4, .panels = 1};

inline RowPairs row_pairs(B quad, B next) {
  const uint32x4_t low = vreinterpretq_u32_u8(quad), high = vreinterpretq_u32_u8(next);
  return {vreinterpretq_u8_u32(vzip1q_u32(low, high)), vreinterpretq_u8_u32(vzip2q_u32(low, high))};
}
/// A quad of two tokens side by side, and the next.
inline B token_pair(const int8_t* quad, const int8_t* next) {
  const uint32x2x2_t tokens =
      vzip_u32(vreinterpret_u32_u8(vld1_u8(reinterpret_cast<const uint8_t*>(quad))),
               vreinterpret_u32_u8(vld1_u8(reinterpret_cast<const uint8_t*>(next))));
  return vreinterpretq_u8_u32(vcombine_u32(tokens.val[0], tokens.val[1]));
}
inline P multiply_pairs(P sums, B rows, B tokens) {
  return vmmlaq_s32(sums, vreinterpretq_s8_u8(rows), vreinterpretq_s8_u8(tokens));
}
inline I first_token(P first_rows, P last_rows) {
  return vuzp1q_s32(first_rows, last_rows);
}
inline I second_token(P first_rows, P last_rows) {
  return vuzp2q_s32(first_rows, last_rows);
}
