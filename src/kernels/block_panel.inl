// Many tokens: panels of blocks become bytes once, whatever the format, and one tiled product runs
// over them.

/// First number of sub-block s of a block in the panel's lists.
template <int kSubBlocks>
constexpr int64_t panel_row(int64_t block, int s) {
  return (block * kSubBlocks + s) * kGroupRows;
}

/// Quads [kQuad, kEnd) of kLanes rows of one block. Where tokens are multiplied in pairs, two quads
/// become two pairs of rows.
template <int kLayout, int kQuad, int kEnd>
[[gnu::always_inline]] inline void unpack_quads(const uint8_t* planes, int vector, uint8_t* codes) {
  if constexpr (kQuad < kEnd) {
    uint8_t* out = codes + kQuad * kQuadBytes + vector * kLanes * 4;
    const B quad = quad_operand<kLayout, kQuad>(planes, vector);
    if constexpr (kTokenPairs) {
      const RowPairs rows = row_pairs(quad, quad_operand<kLayout, kQuad + 1>(planes, vector));
      store_quads(out, rows.first);
      store_quads(out + kQuadBytes, rows.last);
    } else {
      store_quads(out, quad);
    }
    unpack_quads<kLayout, kQuad + (kTokenPairs ? 2 : 1), kEnd>(planes, vector, codes);
  }
}

/// The same as magnitudes and signs. The sums of products, see multiply_split, start from what is
/// returned.
template <int kLayout, int kQuad, int kEnd>
[[gnu::always_inline]] inline I split_quads(const uint8_t* planes, int vector, uint8_t* codes,
                                            uint8_t* signs) {
  const B quad = quad_operand<kLayout, kQuad>(planes, vector);
  const int64_t at = kQuad * kQuadBytes + vector * kLanes * 4;
  store_quads(codes + at, magnitude(quad));
  store_quads(signs + at, sign_mask(quad));
  const I start = split_start(quad);
  if constexpr (kQuad + 1 == kEnd) {
    return start;
  } else {
    return plus(start, split_quads<kLayout, kQuad + 1, kEnd>(planes, vector, codes, signs));
  }
}

template <int kLayout>
void unpack_panel(const uint8_t* group, int64_t first, int64_t count, CodePanel& panel) {
  constexpr BlockLayout layout = kBlockLayouts[kLayout];
  constexpr Strides strides = strides_of<kLayout>();
  constexpr bool kSplit = kSplitSigns && arithmetic_of<kLayout>().bits == 8;
  for (int64_t block = 0; block < count; ++block) {
    const int64_t at = first + block;
    const uint8_t* header = group + at / layout.super_blocks * strides.super;
    const uint8_t* parameters = header + strides.header + at % layout.super_blocks * strides.block;
    const uint8_t* planes = parameters + strides.parameters;
    const int64_t codes = block * kQuads * kQuadBytes;
    for (int v = 0; v < kRowVectors; ++v) {
      const int64_t row = panel_row<layout.sub_blocks>(block, 0) + v * kLanes;
      if constexpr (kSplit) {
        static_assert(layout.sub_blocks == 1);
        const I start =
            split_quads<kLayout, 0, kQuads>(planes, v, panel.codes + codes, panel.signs + codes);
        store_ints(panel.starts + row, plus(start, repeat_int(kSumStart)));
      } else {
        unpack_quads<kLayout, 0, kQuads>(planes, v, panel.codes + codes);
      }
      const BlockScales scales = block_scales<kLayout>(header, parameters, v);
      for (int s = 0; s < layout.sub_blocks; ++s) {
        store(panel.scales + row + s * kGroupRows, scales.scale[s]);
        if constexpr (layout.minimum)
          store(panel.minimums + row + s * kGroupRows, scales.minimum[s]);
      }
    }
  }
}

/// Sums of a tile start from anything at no cost.
constexpr bool kStartsFree = kSumsStart && !kTokenPairs;

/// An Arithmetic and a tile as a type (a struct as template argument would be a weak symbol).
template <int kBits, int kSubBlocks, int kZeroShift, bool kMinimum>
struct KindOf {
  enum : int { bits = kBits, sub_blocks = kSubBlocks, zero_shift = kZeroShift };
  enum : bool {
    minimum = kMinimum,
    split = kSplitSigns && kBits == 8,
    // Where that costs an addition for each sum, it must save another.
    started = split || kStartsFree || kZeroShift != kNoZero
  };
};

template <class Kind>
constexpr TileShape tile_of() {
  return Kind::split ? kSplitTile : kBlockTile;
}

/// Where vector v of a tile's rows begins: the panels lie one after the other.
struct PanelVector {
  const CodePanel* panel;
  int row;
};
[[gnu::always_inline]] inline PanelVector panel_vector(const CodePanel* panels, int v) {
  return {panels + v / kRowVectors, v % kRowVectors * kLanes};
}

/// Adds to `totals` the products of kCount quads, the first of which is at `quad` of the panels.
template <int kBits, int kCount, int kTokens, int kVectors>
[[gnu::always_inline]] inline void add_quads(const CodePanel* panels, int64_t quad,
                                             const int8_t* inputs, I (&totals)[kTokens][kVectors]) {
  constexpr int kRun = safe_products(kBits) < kCount ? safe_products(kBits) : kCount;
  for (int begin = 0; begin < kCount; begin += kRun) {
    P sums[kTokens][kVectors];
    for (int t = 0; t < kTokens; ++t) {
      for (int v = 0; v < kVectors; ++v)
        sums[t][v] = kSumsStart ? start_products(totals[t][v]) : no_products();
    }
#pragma GCC unroll 8
    for (int q = begin; q < begin + kRun; ++q) {
      B rows[kVectors];
      for (int v = 0; v < kVectors; ++v) {
        const PanelVector at = panel_vector(panels, v);
        rows[v] = load_quads(at.panel->codes + (quad + q) * kQuadBytes + at.row * 4);
      }
      for (int t = 0; t < kTokens; ++t) {
        const B input = repeat_quad(inputs + (q * kSideBySide + t) * 4);
        for (int v = 0; v < kVectors; ++v) {
          sums[t][v] = multiply_add<kBits>(sums[t][v], rows[v], input);
        }
      }
    }
    for (int t = 0; t < kTokens; ++t) {
      for (int v = 0; v < kVectors; ++v) {
        const bool all = begin == 0 || kSumsStart;
        totals[t][v] = all ? widen(sums[t][v]) : plus(totals[t][v], widen(sums[t][v]));
      }
    }
  }
}

/// The same for pairs of rows times pairs of tokens; where the last token is alone, what lies
/// beside it is multiplied, too.
template <int kCount, int kTokens, int kVectors>
[[gnu::always_inline]] inline void add_paired_quads(const CodePanel* panels, int64_t quad,
                                                    const int8_t* inputs,
                                                    I (&totals)[kTokens][kVectors]) {
  constexpr int kPairs = (kTokens + 1) / 2;
  P sums[kPairs][kVectors][2];
  for (int t = 0; t < kPairs; ++t) {
    for (int v = 0; v < kVectors; ++v) sums[t][v][0] = sums[t][v][1] = no_products();
  }
  for (int q = 0; q < kCount; q += 2) {
    B tokens[kPairs];
    for (int t = 0; t < kPairs; ++t) {
      const int8_t* pair = inputs + (q * kSideBySide + 2 * t) * 4;
      tokens[t] = token_pair(pair, pair + kSideBySide * 4);
    }
    for (int v = 0; v < kVectors; ++v) {
      const PanelVector at = panel_vector(panels, v);
      for (int i = 0; i < 2; ++i) {
        const B rows = load_quads(at.panel->codes + (quad + q + i) * kQuadBytes + at.row * 4);
        for (int t = 0; t < kPairs; ++t)
          sums[t][v][i] = multiply_pairs(sums[t][v][i], rows, tokens[t]);
      }
    }
  }
  for (int t = 0; t < kTokens; ++t) {
    for (int v = 0; v < kVectors; ++v) {
      const auto& both = sums[t / 2][v];
      totals[t][v] = t % 2 == 0 ? first_token(both[0], both[1]) : second_token(both[0], both[1]);
    }
  }
}

/// The same for codes that are magnitudes, with the signs applied to the inputs.
template <int kCount, int kTokens, int kVectors>
[[gnu::always_inline]] inline void add_split_quads(const CodePanel* panels, int64_t quad,
                                                   const int8_t* inputs,
                                                   I (&totals)[kTokens][kVectors]) {
  for (int v = 0; v < kVectors; ++v) {
    const PanelVector at = panel_vector(panels, v);
    const I start = load_ints(at.panel->starts + quad / kQuads * kGroupRows + at.row);
    for (int t = 0; t < kTokens; ++t) totals[t][v] = start;
  }
  for (int q = 0; q < kCount; ++q) {
    B codes[kVectors], signs[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      const PanelVector at = panel_vector(panels, v);
      const int64_t offset = (quad + q) * kQuadBytes + at.row * 4;
      codes[v] = load_quads(at.panel->codes + offset);
      signs[v] = load_quads(at.panel->signs + offset);
      opaque(codes[v]);
      opaque(signs[v]);
    }
    for (int t = 0; t < kTokens; ++t) {
      const B input = repeat_quad(inputs + (q * kSideBySide + t) * 4);
      for (int v = 0; v < kVectors; ++v) {
        const P products = multiply_split(codes[v], input, signs[v]);
        totals[t][v] = plus_in_order(totals[t][v], widen(products));
      }
    }
  }
}

/// Of the token that lies `tokens` further to the side.
[[gnu::always_inline]] inline BlockInputs inputs_beside(const BlockInputs& first, int64_t tokens) {
  return {first.codes + tokens * 4, first.scales + tokens,        first.less32 + tokens,
          first.less16 + tokens,    first.scaled_sums32 + tokens, first.scaled_sums16 + tokens,
          first.side_by_side};
}

/// Of any token behind the first: what inputs_at finds, inlined (see block_tokens).
inline BlockInputs inputs_of(const BlockInputs& first, int64_t token, int64_t columns) {
  const int64_t group = token / kSideBySide * kSideBySide * columns;
  const BlockInputs inputs{
      first.codes + group,       first.scales + group / 32,        first.less32 + group / 32,
      first.less16 + group / 16, first.scaled_sums32 + group / 32, first.scaled_sums16 + group / 16,
      first.side_by_side};
  return inputs_beside(inputs, token % kSideBySide);
}

/// What token t's sums start from.
template <class Kind>
[[gnu::always_inline]] inline I tile_start(const BlockPanelTask& task, int64_t block, int s,
                                           int t) {
  return start_of<Kind::sub_blocks, Kind::zero_shift, kSideBySide>(task.starts, block, s, t);
}

/// Sums of one sub-block of the tile, from where they start on.
template <class Kind, int kTokens, int kVectors>
[[gnu::always_inline]] inline void sum_products(const BlockPanelTask& task, int64_t block, int s,
                                                I (&totals)[kTokens][kVectors]) {
  constexpr int kCount = kQuads / Kind::sub_blocks;
  const int64_t quad = block * kQuads + s * kCount;
  const int8_t* inputs = task.inputs.codes + quad * 4 * kSideBySide;
  if constexpr (Kind::split) return add_split_quads<kCount>(task.panel, quad, inputs, totals);
  if constexpr (kStartsFree) {
    for (int t = 0; t < kTokens; ++t) {
      const I start = tile_start<Kind>(task, block, s, t);
      for (int v = 0; v < kVectors; ++v) totals[t][v] = start;
    }
  }
  if constexpr (kTokenPairs) {
    add_paired_quads<kCount>(task.panel, quad, inputs, totals);
  } else {
    add_quads<Kind::bits, kCount>(task.panel, quad, inputs, totals);
  }
  if constexpr (Kind::started && !kStartsFree) {
    for (int t = 0; t < kTokens; ++t) {
      const I start = tile_start<Kind>(task, block, s, t);
      for (int v = 0; v < kVectors; ++v) totals[t][v] = plus(totals[t][v], start);
    }
  }
}

/// Adds one sub-block to the results of the tile.
template <class Kind, int kTokens, int kVectors>
[[gnu::always_inline]] inline void add_tile_sub_block(const BlockPanelTask& task, int64_t block,
                                                      int s, F (&results)[kTokens][kVectors]) {
  I totals[kTokens][kVectors];
  sum_products<Kind>(task, block, s, totals);
  for (int v = 0; v < kVectors; ++v) {
    const PanelVector at = panel_vector(task.panel, v);
    const int64_t row = panel_row<Kind::sub_blocks>(block, s) + at.row;
    const SumScale scale = sum_scale(load(at.panel->scales + row));
    F minimum = broadcast(0);
    if constexpr (Kind::minimum) minimum = load(at.panel->minimums + row);
    for (int t = 0; t < kTokens; ++t) {
      const BlockInputs token = inputs_beside(task.inputs, t);
      results[t][v] = add_sub_block<Kind::sub_blocks, Kind::minimum>(
          scaled_sum<Kind::started>(totals[t][v], scale), minimum,
          InputBlock<kSideBySide>{token, block}, s, results[t][v]);
    }
  }
}

template <int kPanels>
[[gnu::always_inline]] inline void ask_for(const Ahead& ahead, int64_t block) {
  if (ahead.bytes == nullptr) return;
  for (int p = 0; p < kPanels; ++p)
    ask_for(ahead.bytes + p * ahead.stride + block * ahead.per_block, ahead.per_block);
}

template <class Kind, int kTokens, int kPanels>
void block_tile(const BlockPanelTask& task) {
  constexpr int kVectors = kPanels * kRowVectors;
  F results[kTokens][kVectors];
  for (int t = 0; t < kTokens; ++t) {
    const int64_t at = t * task.before_stride;
    for (int v = 0; v < kVectors; ++v)
      results[t][v] = task.before != nullptr ? load(task.before + at + v * kLanes) : broadcast(0);
  }
  for (int64_t block = 0; block < task.blocks; ++block) {
    ask_for<kPanels>(task.ahead, block);
    add_tile_sub_block<Kind>(task, block, 0, results);
    if constexpr (Kind::sub_blocks == 2) add_tile_sub_block<Kind>(task, block, 1, results);
  }
  for (int t = 0; t < kTokens; ++t) {
    float* out = task.out + t * task.out_stride;
    for (int v = 0; v < kVectors; ++v) store(out + v * kLanes, results[t][v]);
  }
}

/// One tile of `tokens` tokens, at most kTokens.
template <class Kind, int kTokens, int kPanels>
void block_tile_of(const BlockPanelTask& task, int64_t tokens) {
  if constexpr (kTokens > 0) {
    if (tokens == kTokens) return block_tile<Kind, kTokens, kPanels>(task);
    block_tile_of<Kind, kTokens - 1, kPanels>(task, tokens);
  }
}

/// What lies before those of a token's first sub-block.
template <class Kind>
constexpr int64_t starts_before(int64_t token, int64_t columns) {
  const int64_t group = token / kSideBySide * kSideBySide;
  return group * (columns / kBlockValues * Kind::sub_blocks) + token % kSideBySide;
}

/// Tokens of the next tile of at most `most`, of `left` side by side. The last two tiles share what
/// is left: a tile of one or two tokens waits for its own sums.
inline int64_t tile_tokens(int64_t left, int64_t most) {
  return left >= 2 * most ? most : left > most ? (left + 1) / 2 : left;
}

/// All tokens times kPanels panels. The task's fields are set one by one: who copies a struct that
/// was just written to waits until those writes have left the core, results and all.
template <class Kind, int kPanels>
void block_tokens(const BlockPanelTask& all) {
  constexpr int kMost = tile_of<Kind>().tokens;
  static_assert(kSideBySide % kMost == 0);
  BlockPanelTask task = all;
  for (int64_t token = 0; token < all.tokens;) {
    const int64_t beside = kSideBySide - token % kSideBySide;
    const int64_t left = all.tokens - token;
    const int64_t tokens = tile_tokens(left < beside ? left : beside, kMost);
    task.inputs = inputs_of(all.inputs, token, all.columns);
    if constexpr (Kind::zero_shift != kNoZero)
      task.starts = all.starts + starts_before<Kind>(token, all.columns);
    block_tile_of<Kind, kMost, kPanels>(task, tokens);
    token += tokens;
    if (all.before != nullptr) task.before = all.before + token * all.before_stride;
    task.out = all.out + token * all.out_stride;
    task.ahead.bytes = nullptr;
  }
}

template <class Kind>
void block_product(const BlockPanelTask& task) {
  constexpr int kMost = tile_of<Kind>().panels;
  BlockPanelTask rest = task;
  while (rest.panels > 0) {
    const bool all = rest.panels >= kMost;
    if (all) block_tokens<Kind, kMost>(rest);
    if (!all) block_tokens<Kind, 1>(rest);
    const int64_t done = all ? kMost : 1;
    rest.panels -= done;
    rest.panel += done;
    rest.out += done * kGroupRows;
    if (rest.before != nullptr) rest.before += done * kGroupRows;
    if (rest.ahead.bytes != nullptr) rest.ahead.bytes += done * rest.ahead.stride;
  }
}

template <int kLayout>
constexpr auto block_product_for() {
  constexpr Arithmetic kind = arithmetic_of<kLayout>();
  // Codes of fewer than four bits are multiplied as if they had four: no step gets cheaper.
  return block_product<
      KindOf<(kind.bits < 4 ? 4 : kind.bits), kind.sub_blocks, kind.zero_shift, kind.minimum>>;
}
