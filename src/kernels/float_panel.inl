// The float product: a tile of tokens times a panel of 16 rows, all sums in registers. A panel
// holds value k of the 16 rows side by side, so that one broadcast input feeds them all and no sum
// ever crosses lanes. Each output has one sum, over k in rising order: results do not depend on the
// tile.

constexpr int kRowVectors = kGroupRows / kLanes;

template <int kTokens>
void float_tile(const FloatPanelTask& task) {
  F sums[kTokens][kRowVectors];
  for (int t = 0; t < kTokens; ++t) {
    for (int v = 0; v < kRowVectors; ++v) {
      sums[t][v] =
          task.accumulate ? load(task.out + t * task.out_stride + v * kLanes) : broadcast(0);
    }
  }
  const float* panel = task.panel;
  for (int64_t k = 0; k < task.depth; ++k, panel += kGroupRows) {
    F rows[kRowVectors];
    for (int v = 0; v < kRowVectors; ++v) rows[v] = load(panel + v * kLanes);
    for (int t = 0; t < kTokens; ++t) {
      const F input = broadcast(task.inputs[t * task.input_stride + k]);
      for (int v = 0; v < kRowVectors; ++v) sums[t][v] = fma(input, rows[v], sums[t][v]);
    }
  }
  for (int t = 0; t < kTokens; ++t) {
    for (int v = 0; v < kRowVectors; ++v)
      store(task.out + t * task.out_stride + v * kLanes, sums[t][v]);
  }
}

/// The last tile, of at most kTokens tokens.
template <int kTokens>
void float_tail(const FloatPanelTask& task) {
  if constexpr (kTokens > 0) {
    if (task.tokens == kTokens) return float_tile<kTokens>(task);
    float_tail<kTokens - 1>(task);
  }
}

void float_panel(const FloatPanelTask& task) {
  FloatPanelTask rest = task;
  for (; rest.tokens >= kTileTokens; rest.tokens -= kTileTokens) {
    float_tile<kTileTokens>(rest);
    rest.inputs += kTileTokens * rest.input_stride;
    rest.out += kTileTokens * rest.out_stride;
  }
  float_tail<kTileTokens - 1>(rest);
}
