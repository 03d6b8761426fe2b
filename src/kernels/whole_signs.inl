// For instruction sets whose panels keep bytes as they are; what follows is named by the text but
// never called.

constexpr bool kSplitSigns = false;
constexpr TileShape kSplitTile = kBlockTile;
inline B magnitude(B codes) {
  return codes;
}
inline B sign_mask(B codes) {
  return codes;
}
inline P multiply_split(B, B, B) {
  return no_products();
}
inline I split_start(B) {
  return widen(no_products());
}
inline I load_ints(const int32_t*) {
  return widen(no_products());
}
inline void store_ints(int32_t*, I) {}
