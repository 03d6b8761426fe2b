// Several tokens times packed blocks, where there are registers enough to keep all their sums: an
// operand is made once for all of them, and no panel in between. Each gets the bits that it gets
// alone.

/// Most tokens; 1: they go by panels.
constexpr int kDotTokens = kLanes == 16 ? 8 : 1;

template <int kLayout, int kQuad, int kEnd, int kTokens>
[[gnu::always_inline]] inline void add_quads(const uint8_t* planes, const int8_t* inputs,
                                             I (&totals)[kTokens]) {
  if constexpr (kQuad < kEnd) {
    const B codes = quad_operand<kLayout, kQuad>(planes, 0);
    for (int t = 0; t < kTokens; ++t) {
      totals[t] =
          add_products(totals[t], codes, repeat_quad(inputs + (kQuad * kSideBySide + t) * 4));
    }
    add_quads<kLayout, kQuad + 1, kEnd>(planes, inputs, totals);
  }
}

/// Sub-block kSub of a block of all tokens, added to their results.
template <int kLayout, int kSub, int kTokens>
[[gnu::always_inline]] inline void add_sub_blocks(const uint8_t* planes, const BlockScales& scales,
                                                  const BlockDotTask& task, int64_t block,
                                                  F (&results)[kTokens]) {
  constexpr Arithmetic kind = arithmetic_of<kLayout>();
  constexpr int kSubQuads = kQuads / kind.sub_blocks;
  I totals[kTokens];
  for (int t = 0; t < kTokens; ++t) {
    totals[t] =
        start_of<kind.sub_blocks, kind.zero_shift, kSideBySide>(task.starts, block, kSub, t);
  }
  add_quads<kLayout, kSub * kSubQuads, (kSub + 1) * kSubQuads>(
      planes, task.inputs.codes + block * kBlockValues * kSideBySide, totals);
  const SumScale scale = sum_scale(scales.scale[kSub]);
  for (int t = 0; t < kTokens; ++t) {
    const BlockInputs token = inputs_beside(task.inputs, t);
    results[t] = add_sub_block<kind.sub_blocks, kind.minimum>(
        scaled_sum<true>(totals[t], scale), scales.minimum[kSub],
        InputBlock<kSideBySide>{token, block}, kSub, results[t]);
  }
}

template <int kLayout, int kTokens>
void dot_tokens(const BlockDotTask& task, const uint8_t* group, float* out) {
  constexpr BlockLayout layout = kBlockLayouts[kLayout];
  constexpr Strides strides = strides_of<kLayout>();
  F results[kTokens];
  for (F& result : results) result = broadcast(0);
  for (int64_t block = 0; block < task.blocks; group += strides.super) {
    for (int i = 0; i < layout.super_blocks; ++i, ++block) {
      const uint8_t* parameters = group + strides.header + i * strides.block;
      const uint8_t* planes = parameters + strides.parameters;
      const BlockScales scales = block_scales<kLayout>(group, parameters, 0);
      ask_for(parameters + kAhead, strides.block);
      add_sub_blocks<kLayout, 0>(planes, scales, task, block, results);
      if constexpr (layout.sub_blocks == 2)
        add_sub_blocks<kLayout, 1>(planes, scales, task, block, results);
    }
  }
  for (int t = 0; t < kTokens && t < task.tokens; ++t) store(out + t * task.out_stride, results[t]);
}

/// At most kDotTokens tokens; those that are missing are computed and left out.
template <int kLayout>
void block_dots(const BlockDotTask& task) {
  const auto dot = task.tokens <= 2   ? dot_tokens<kLayout, 2>
                   : task.tokens <= 4 ? dot_tokens<kLayout, 4>
                                      : dot_tokens<kLayout, kDotTokens>;
  for (int64_t g = 0; g < task.groups; ++g)
    dot(task, task.group + g * task.group_stride, task.out + g * kGroupRows);
}

template <int kLayout>
constexpr auto block_dots_for() -> void (*)(const BlockDotTask&) {
  if constexpr (kDotTokens > 1) return block_dots<kLayout>;
  return nullptr;
}
