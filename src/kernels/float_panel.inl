// The float product: a tile of tokens times panels of 16 rows, all sums in registers. A panel holds
// value k of the 16 rows side by side, so that one broadcast input feeds them all and no sum ever
// crosses lanes. Each output has one sum, over k in rising order: results do not depend on the
// tile.

constexpr int kRowVectors = kGroupRows / kLanes;

inline F load_values(const float* in) {
  return load(in);
}
inline F load_values(const uint16_t* halves) {
  return load_half(halves);
}
inline F load_values(const BFloat* bfloats) {
  return load_bfloat(&bfloats->bits);
}

/// PanelTask whose panels may lie among other columns: value k + 1 of the 16 rows stands row_stride
/// behind value k. Value k of token t is inputs[t * input_stride + k], or where tokens lie side by
/// side inputs[k * kSideBySide + t].
template <class Value>
struct Panels {
  const float* inputs;
  int64_t input_stride;
  int64_t tokens;
  const Value* panel;
  int64_t row_stride;
  int64_t panel_stride;
  int64_t panels;
  int64_t depth;
  float* out;
  int64_t out_stride;
  bool accumulate;
};

enum class Inputs : bool { kApart, kSideBySide };

template <Inputs kInputs, int kTokens, int kPanels, class Value>
void float_tile(const Panels<Value>& task) {
  constexpr int kVectors = kPanels * kRowVectors;
  F sums[kTokens][kVectors];
  for (int t = 0; t < kTokens; ++t) {
    const float* out = task.out + t * task.out_stride;
    for (int v = 0; v < kVectors; ++v)
      sums[t][v] = task.accumulate ? load(out + v * kLanes) : broadcast(0);
  }
  const Value* panel = task.panel;
  for (int64_t k = 0; k < task.depth; ++k, panel += task.row_stride) {
    F rows[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      rows[v] = load_values(panel + v / kRowVectors * task.panel_stride + v % kRowVectors * kLanes);
    }
    for (int t = 0; t < kTokens; ++t) {
      const bool apart = kInputs == Inputs::kApart;
      const F input =
          broadcast(task.inputs[apart ? t * task.input_stride + k : k * kSideBySide + t]);
      for (int v = 0; v < kVectors; ++v) sums[t][v] = fma(input, rows[v], sums[t][v]);
    }
  }
  for (int t = 0; t < kTokens; ++t) {
    float* out = task.out + t * task.out_stride;
    for (int v = 0; v < kVectors; ++v) store(out + v * kLanes, sums[t][v]);
  }
}

/// The last tile, of at most kTokens tokens.
template <Inputs kInputs, int kTokens, int kPanels, class Value>
void float_tail(const Panels<Value>& task) {
  if constexpr (kTokens > 0) {
    if (task.tokens == kTokens) return float_tile<kInputs, kTokens, kPanels>(task);
    float_tail<kInputs, kTokens - 1, kPanels>(task);
  }
}

/// All tokens times kPanels panels.
template <int kPanels, class Value>
void float_tokens(Panels<Value> task) {
  constexpr int kTokens = kFloatTile.tokens;
  for (; task.tokens >= kTokens; task.tokens -= kTokens) {
    float_tile<Inputs::kApart, kTokens, kPanels>(task);
    task.inputs += kTokens * task.input_stride;
    task.out += kTokens * task.out_stride;
  }
  float_tail<Inputs::kApart, kTokens - 1, kPanels>(task);
}

template <class Value>
void multiply_panels(Panels<Value> rest) {
  while (rest.panels > 0) {
    // One token has too few sums to hide the latency of the fma: it takes panels in pairs
    // everywhere.
    const int64_t panels = rest.panels >= 2 && (kFloatTile.panels == 2 || rest.tokens == 1) ? 2 : 1;
    if (panels == 1) {
      float_tokens<1>(rest);
    } else if constexpr (kFloatTile.panels == 2) {
      float_tokens<2>(rest);
    } else {
      float_tile<Inputs::kApart, 1, 2>(rest);
    }
    rest.panels -= panels;
    rest.panel += panels * rest.panel_stride;
    rest.out += panels * kGroupRows;
  }
}

template <class Value>
void contiguous_panel(const PanelTask<Value>& task) {
  multiply_panels<Value>({.inputs = task.inputs,
                          .input_stride = task.input_stride,
                          .tokens = task.tokens,
                          .panel = task.panel,
                          .row_stride = kGroupRows,
                          .panel_stride = task.panel_stride,
                          .panels = task.panels,
                          .depth = task.depth,
                          .out = task.out,
                          .out_stride = task.out_stride,
                          .accumulate = task.accumulate});
}

/// A group of tokens side by side times kPanels panels.
template <int kPanels>
void float_group(Panels<float> task) {
  constexpr int kTokens = kFloatTile.tokens;
  static_assert(kSideBySide % kTokens == 0);
  for (; task.tokens >= kTokens; task.tokens -= kTokens) {
    float_tile<Inputs::kSideBySide, kTokens, kPanels>(task);
    task.inputs += kTokens;
    task.out += kTokens * task.out_stride;
  }
  float_tail<Inputs::kSideBySide, kTokens - 1, kPanels>(task);
}

/// The panels, one or two, stay in the first-level cache while groups of tokens pass.
inline void float_strip(const PanelTask<float>& task) {
  Panels<float> group{.inputs = task.inputs,
                      .input_stride = 0,
                      .tokens = kSideBySide,
                      .panel = task.panel,
                      .row_stride = kGroupRows,
                      .panel_stride = task.panel_stride,
                      .panels = task.panels,
                      .depth = task.depth,
                      .out = task.out,
                      .out_stride = task.out_stride,
                      .accumulate = task.accumulate};
  for (int64_t left = task.tokens; left > 0; left -= kSideBySide) {
    group.tokens = left < kSideBySide ? left : kSideBySide;
    Panels<float> one = group;
    if (kFloatTile.panels == 2 && task.panels == 2) {
      float_group<2>(one);
    } else {
      for (int64_t panel = 0; panel < task.panels; ++panel) {
        float_group<1>(one);
        one.panel += one.panel_stride;
        one.out += kGroupRows;
      }
    }
    group.inputs += task.input_stride;
    group.out += kSideBySide * task.out_stride;
  }
}

/// Rows [tokens][stride] as [columns][kSideBySide]. Tokens that are missing become zeros.
inline void lay_side_by_side(const float* in, int64_t stride, int64_t tokens, int64_t columns,
                             float* out) {
  constexpr int kVectors = (kSideBySide + kLanes - 1) / kLanes;
  int64_t k = 0;
  for (; k + kLanes <= columns; k += kLanes) {
    alignas(64) float square[kLanes][kVectors * kLanes];
    for (int v = 0; v < kVectors; ++v) {
      F rows[kLanes];
      for (int i = 0; i < kLanes; ++i) {
        const int64_t token = v * kLanes + i;
        rows[i] = token < tokens ? load(in + token * stride + k) : broadcast(0);
      }
      transpose(rows);
      for (int i = 0; i < kLanes; ++i) store(square[i] + v * kLanes, rows[i]);
    }
    for (int i = 0; i < kLanes; ++i)
      __builtin_memcpy(out + (k + i) * kSideBySide, square[i], kSideBySide * sizeof(float));
  }
  for (; k < columns; ++k) {
    for (int64_t t = 0; t < kSideBySide; ++t)
      out[k * kSideBySide + t] = t < tokens ? in[t * stride + k] : 0;
  }
}
