// Many tokens: a panel of blocks becomes bytes once, whatever the format, and one tiled product
// runs over it.

template <int kLayout, int kQuad = 0>
void unpack_quads(const uint8_t* planes, uint8_t* codes) {
  if constexpr (kQuad < kQuads) {
    for (int v = 0; v < kRowVectors; ++v) {
      store_quads(codes + kQuad * kQuadBytes + v * kLanes * 4,
                  quad_operand<kLayout, kQuad>(planes, v));
    }
    unpack_quads<kLayout, kQuad + 1>(planes, codes);
  }
}

/// First panel float of sub-block s of a block.
template <int kSubBlocks>
constexpr int64_t panel_row(int64_t block, int s) {
  return (block * kSubBlocks + s) * kGroupRows;
}

template <int kLayout>
void unpack_panel(const uint8_t* group, int64_t first, int64_t count, CodePanel& panel) {
  constexpr BlockLayout layout = kBlockLayouts[kLayout];
  constexpr Strides strides = strides_of<kLayout>();
  for (int64_t block = 0; block < count; ++block) {
    const int64_t at = first + block;
    const uint8_t* header = group + at / layout.super_blocks * strides.super;
    const uint8_t* parameters = header + strides.header + at % layout.super_blocks * strides.block;
    unpack_quads<kLayout>(parameters + strides.parameters,
                          panel.codes + block * kQuads * kQuadBytes);
    for (int v = 0; v < kRowVectors; ++v) {
      const BlockScales scales = block_scales<kLayout>(header, parameters, v);
      for (int s = 0; s < layout.sub_blocks; ++s) {
        const int64_t row = panel_row<layout.sub_blocks>(block, s) + v * kLanes;
        store(panel.scales + row, scales.scale[s]);
        if constexpr (layout.minimum) store(panel.minimums + row, scales.minimum[s]);
      }
    }
  }
}

/// Sums of the products of kCount quads from `codes` on with the inputs of kTokens tokens.
template <int kBits, int kCount, int kTokens>
[[gnu::always_inline]] inline void tile_quads(const uint8_t* codes, const int8_t* inputs,
                                              int64_t columns, I (&totals)[kTokens][kRowVectors]) {
  constexpr int kRun = safe_products(kBits) < kCount ? safe_products(kBits) : kCount;
  for (int begin = 0; begin < kCount; begin += kRun) {
    P sums[kTokens][kRowVectors];
    for (int t = 0; t < kTokens; ++t) {
      for (int v = 0; v < kRowVectors; ++v) sums[t][v] = no_products();
    }
    for (int q = begin; q < begin + kRun; ++q) {
      B rows[kRowVectors];
      for (int v = 0; v < kRowVectors; ++v)
        rows[v] = load_quads(codes + q * kQuadBytes + v * kLanes * 4);
      for (int t = 0; t < kTokens; ++t) {
        const B input = repeat_quad(inputs + t * columns + q * 4);
        for (int v = 0; v < kRowVectors; ++v)
          sums[t][v] = multiply_add<kBits>(sums[t][v], rows[v], input);
      }
    }
    for (int t = 0; t < kTokens; ++t) {
      for (int v = 0; v < kRowVectors; ++v) {
        totals[t][v] = begin == 0 ? widen(sums[t][v]) : plus(totals[t][v], widen(sums[t][v]));
      }
    }
  }
}

[[gnu::always_inline]] inline BlockInputs inputs_of_token(const BlockInputs& first, int64_t token,
                                                          int64_t columns) {
  const int64_t in32 = token * (columns / 32), in16 = token * (columns / 16);
  return {first.codes + token * columns, first.scales + in32,        first.sums32 + in32,
          first.sums16 + in16,           first.scaled_sums32 + in32, first.scaled_sums16 + in16};
}

template <class Kind, int kTokens>
void block_tile(const BlockPanelTask& task) {
  constexpr int kSubBlocks = Kind::sub_blocks;
  constexpr int kSubQuads = kQuads / kSubBlocks;
  F results[kTokens][kRowVectors];
  for (int t = 0; t < kTokens; ++t) {
    for (int v = 0; v < kRowVectors; ++v) {
      results[t][v] =
          task.accumulate ? load(task.out + t * task.out_stride + v * kLanes) : broadcast(0);
    }
  }
  for (int64_t block = 0; block < task.blocks; ++block) {
    const uint8_t* codes = task.panel->codes + block * kQuads * kQuadBytes;
    const int8_t* inputs = task.inputs.codes + block * kBlockValues;
    I totals[kSubBlocks][kTokens][kRowVectors];
    for (int s = 0; s < kSubBlocks; ++s) {
      tile_quads<Kind::bits, kSubQuads, kTokens>(
          codes + s * kSubQuads * kQuadBytes, inputs + s * kSubQuads * 4, task.columns, totals[s]);
    }
    for (int t = 0; t < kTokens; ++t) {
      const BlockInputs token = inputs_of_token(task.inputs, t, task.columns);
      for (int v = 0; v < kRowVectors; ++v) {
        BlockScales scales;
        I sums[kSubBlocks];
        for (int s = 0; s < kSubBlocks; ++s) {
          const int64_t row = panel_row<kSubBlocks>(block, s) + v * kLanes;
          scales.scale[s] = load(task.panel->scales + row);
          if constexpr (Kind::minimum) scales.minimum[s] = load(task.panel->minimums + row);
          sums[s] = totals[s][t][v];
        }
        results[t][v] = add_block<kSubBlocks, Kind::zero_shift, Kind::minimum>(
            sums, scales, {token, block}, results[t][v]);
      }
    }
  }
  for (int t = 0; t < kTokens; ++t) {
    for (int v = 0; v < kRowVectors; ++v)
      store(task.out + t * task.out_stride + v * kLanes, results[t][v]);
  }
}

template <class Kind, int kTokens>
void block_tail(const BlockPanelTask& task) {
  if constexpr (kTokens > 0) {
    if (task.tokens == kTokens) return block_tile<Kind, kTokens>(task);
    block_tail<Kind, kTokens - 1>(task);
  }
}

template <class Kind>
void block_product(const BlockPanelTask& task) {
  BlockPanelTask rest = task;
  for (; rest.tokens >= kBlockTileTokens; rest.tokens -= kBlockTileTokens) {
    block_tile<Kind, kBlockTileTokens>(rest);
    rest.inputs = inputs_of_token(rest.inputs, kBlockTileTokens, rest.columns);
    rest.out += kBlockTileTokens * rest.out_stride;
  }
  block_tail<Kind, kBlockTileTokens - 1>(rest);
}

/// An Arithmetic as a type (clang 14 and gcc 12 would emit a weak symbol for a struct as template
/// argument).
template <int kBits, int kSubBlocks, int kZeroShift, bool kMinimum>
struct KindOf {
  enum : int { bits = kBits, sub_blocks = kSubBlocks, zero_shift = kZeroShift, minimum = kMinimum };
};

template <int kLayout>
constexpr auto block_product_for() {
  constexpr Arithmetic kind = arithmetic_of<kLayout>();
  // Codes of fewer than four bits are multiplied as if they had four: no step gets cheaper.
  return block_product<
      KindOf<(kind.bits < 4 ? 4 : kind.bits), kind.sub_blocks, kind.zero_shift, kind.minimum>>;
}
