// For instruction sets that multiply rows by one token at a time; what follows is named by the text
// but never called.

constexpr bool kTokenPairs = false;
struct RowPairs {
  B first, last;
};
inline RowPairs row_pairs(B quad, B next) {
  return {quad, next};
}
inline B token_pair(const int8_t* first, const int8_t*) {
  return repeat_quad(first);
}
inline P multiply_pairs(P sums, B, B) {
  return sums;
}
inline I first_token(P first_rows, P) {
  return widen(first_rows);
}
inline I second_token(P first_rows, P) {
  return widen(first_rows);
}
