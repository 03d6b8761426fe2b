// Several tokens times packed blocks, where there are registers enough to keep all their sums: an
// operand is made once for all of them, and no panel in between. Each gets the bits that it gets
// alone.

/// Most tokens; 1: they go by panels.
constexpr int kDotTokens = kLanes == 16 ? 8 : 1;

/// Groups that are multiplied at once: two share the loads of inputs. Their results wait in memory,
/// which is too much where they are added to twice a block.
template <int kLayout>
constexpr int kDotGroups = kBlockLayouts[kLayout].sub_blocks == 1 ? 2 : 1;

template <int kLayout, int kQuad, int kEnd, int kTokens, int kGroups>
[[gnu::always_inline]] inline void add_quads(const uint8_t* const (&planes)[kGroups],
                                             const int8_t* inputs, I (&totals)[kGroups][kTokens]) {
  if constexpr (kQuad < kEnd) {
    B codes[kGroups];
    for (int g = 0; g < kGroups; ++g) codes[g] = quad_operand<kLayout, kQuad>(planes[g], 0);
    for (int t = 0; t < kTokens; ++t) {
      const B input = repeat_quad(inputs + (kQuad * kSideBySide + t) * 4);
      for (int g = 0; g < kGroups; ++g) totals[g][t] = add_products(totals[g][t], codes[g], input);
    }
    add_quads<kLayout, kQuad + 1, kEnd>(planes, inputs, totals);
  }
}

/// Sub-block kSub of a block of all tokens, added to their results.
template <int kLayout, int kSub, int kTokens, int kGroups>
[[gnu::always_inline]] inline void add_sub_blocks(const uint8_t* const (&planes)[kGroups],
                                                  const BlockScales (&scales)[kGroups],
                                                  const BlockDotTask& task, int64_t block,
                                                  F (&results)[kGroups][kTokens]) {
  constexpr Arithmetic kind = arithmetic_of<kLayout>();
  constexpr int kSubQuads = kQuads / kind.sub_blocks;
  I totals[kGroups][kTokens];
  for (int t = 0; t < kTokens; ++t) {
    const I start =
        start_of<kind.sub_blocks, kind.zero_shift, kSideBySide>(task.starts, block, kSub, t);
    for (int g = 0; g < kGroups; ++g) totals[g][t] = start;
  }
  add_quads<kLayout, kSub * kSubQuads, (kSub + 1) * kSubQuads>(
      planes, task.inputs.codes + block * kBlockValues * kSideBySide, totals);
  for (int g = 0; g < kGroups; ++g) {
    const SumScale scale = sum_scale(scales[g].scale[kSub]);
    for (int t = 0; t < kTokens; ++t) {
      const BlockInputs token = inputs_beside(task.inputs, t);
      results[g][t] = add_sub_block<kind.sub_blocks, kind.minimum>(
          scaled_sum<true>(totals[g][t], scale), scales[g].minimum[kSub],
          InputBlock<kSideBySide>{token, block}, kSub, results[g][t]);
    }
  }
}

/// `groups`: the same twice where there is but one.
template <int kLayout, int kTokens, int kGroups>
void dot_tokens(const BlockDotTask& task, const uint8_t* const (&groups)[kGroups],
                float* const (&out)[kGroups]) {
  constexpr BlockLayout layout = kBlockLayouts[kLayout];
  constexpr Strides strides = strides_of<kLayout>();
  F results[kGroups][kTokens];
  for (auto& group : results) {
    for (F& result : group) result = broadcast(0);
  }
  int64_t header = 0;
  for (int64_t block = 0; block < task.blocks; header += strides.super) {
    for (int i = 0; i < layout.super_blocks; ++i, ++block) {
      const int64_t place = header + strides.header + i * strides.block;
      const int64_t ahead = ahead_of_groups<kGroups>(place, task.group_stride);
      const uint8_t* planes[kGroups];
      BlockScales scales[kGroups];
      for (int g = 0; g < kGroups; ++g) {
        const uint8_t* parameters = groups[g] + place;
        planes[g] = parameters + strides.parameters;
        scales[g] = block_scales<kLayout>(groups[g] + header, parameters, 0);
        ask_for(parameters + ahead, strides.block);
      }
      add_sub_blocks<kLayout, 0>(planes, scales, task, block, results);
      if constexpr (layout.sub_blocks == 2)
        add_sub_blocks<kLayout, 1>(planes, scales, task, block, results);
    }
  }
  for (int t = 0; t < kTokens && t < task.tokens; ++t) {
    for (int g = 0; g < kGroups; ++g) store(out[g] + t * task.out_stride, results[g][t]);
  }
}

/// At most kDotTokens tokens; those that are missing are computed and left out.
template <int kLayout>
void block_dots(const BlockDotTask& task) {
  constexpr int kGroups = kDotGroups<kLayout>;
  const auto dot = task.tokens <= 2   ? dot_tokens<kLayout, 2, kGroups>
                   : task.tokens <= 4 ? dot_tokens<kLayout, 4, kGroups>
                                      : dot_tokens<kLayout, kDotTokens, kGroups>;
  for (int64_t first = 0; first < task.groups; first += kGroups) {
    const uint8_t* groups[kGroups];
    float* out[kGroups];
    for (int g = 0; g < kGroups; ++g) {
      const int64_t group = first + g < task.groups ? first + g : first;
      groups[g] = task.group + group * task.group_stride;
      out[g] = task.out + group * kGroupRows;
    }
    dot(task, groups, out);
  }
}

template <int kLayout>
constexpr auto block_dots_for() -> void (*)(const BlockDotTask&) {
  if constexpr (kDotTokens > 1) return block_dots<kLayout>;
  return nullptr;
}
