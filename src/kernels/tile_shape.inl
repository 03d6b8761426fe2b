/// Tokens times panels of 16 rows whose sums are kept in registers at once.
struct TileShape {
  int tokens;
  int panels;
};
