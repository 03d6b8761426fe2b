// Few tokens: dot products straight from the packed blocks, at the speed at which memory delivers
// them.

template <int kLayout, int kFirst, int kCount>
P quads_partial(const uint8_t* planes, int vector, const int8_t* inputs) {
  constexpr int kLast = kFirst + kCount - 1;
  P before = no_products();
  if constexpr (kCount > 1)
    before = quads_partial<kLayout, kFirst, kCount - 1>(planes, vector, inputs);
  return multiply_add<kBlockLayouts[kLayout].code_bits()>(
      before, quad_operand<kLayout, kLast>(planes, vector), repeat_quad(inputs + 4 * kLast));
}

/// Sums of the products of quads [kFirst, kFirst + kCount) of kLanes rows with the inputs.
template <int kLayout, int kFirst, int kCount>
I quads_dot(const uint8_t* planes, int vector, const int8_t* inputs) {
  constexpr int kSafe = safe_products(kBlockLayouts[kLayout].code_bits());
  if constexpr (kCount > kSafe) {
    return plus(quads_dot<kLayout, kFirst, kSafe>(planes, vector, inputs),
                quads_dot<kLayout, kFirst + kSafe, kCount - kSafe>(planes, vector, inputs));
  } else {
    return widen(quads_partial<kLayout, kFirst, kCount>(planes, vector, inputs));
  }
}

/// Sub-block kSub of a token's products with kLanes rows, times the rows' scale.
template <int kLayout, int kSub>
[[gnu::always_inline]] inline F sub_block_dot(const uint8_t* planes, int vector,
                                              const BlockDotTask& task, int64_t block, F scale) {
  constexpr Arithmetic kind = arithmetic_of<kLayout>();
  constexpr int kCount = kQuads / kind.sub_blocks;
  const I total = quads_dot<kLayout, kSub * kCount, kCount>(
      planes, vector, task.inputs.codes + block * kBlockValues);
  if constexpr (kind.zero_shift == kNoZero) return to_float(total) * scale;
  const I start = start_of<kind.sub_blocks, kind.zero_shift, 1>(task.starts, block, kSub, 0);
  return scaled_sum(plus(total, start), scale);
}

/// Blocks that share a scale's scale take so much work that one stream is best, asked for twice;
/// others wait for memory alone, which delivers most to two groups that are read side by side.
template <int kLayout>
constexpr bool kOneStream = kBlockLayouts[kLayout].super_blocks == 8;

/// Asks for what follows `count` bytes at `at`, by two streams what lies `ahead` of it.
template <int kLayout>
[[gnu::always_inline]] inline void ask_behind(const uint8_t* at, int64_t ahead, int64_t count) {
  if constexpr (kOneStream<kLayout>) {
    stream_on(at, count);
  } else {
    ask_for(at + ahead, count);
  }
}

/// Bytes from `place` of one of kGroups groups that are read side by side to what to ask for.
/// Behind a group's end lie its neighbours here, and then what comes next.
template <int kGroups>
[[gnu::always_inline]] inline int64_t ahead_of_groups(int64_t place, int64_t group_stride) {
  return kAhead + (place + kAhead < group_stride ? 0 : (kGroups - 1) * group_stride);
}

/// results + a super-block of a group. `ahead`: bytes to what to ask for meanwhile.
template <int kLayout>
[[gnu::always_inline]] inline void dot_super_block(const uint8_t* header, int64_t ahead,
                                                   const BlockDotTask& task, int64_t block,
                                                   F (&results)[kRowVectors]) {
  constexpr BlockLayout layout = kBlockLayouts[kLayout];
  constexpr Arithmetic kind = arithmetic_of<kLayout>();
  constexpr Strides strides = strides_of<kLayout>();
  ask_behind<kLayout>(header, ahead, strides.header);
  for (int i = 0; i < layout.super_blocks; ++i, ++block) {
    const uint8_t* parameters = header + strides.header + i * strides.block;
    const uint8_t* planes = parameters + strides.parameters;
    const InputBlock<1> input{task.inputs, block};
    ask_behind<kLayout>(parameters, ahead, strides.block);
    for (int v = 0; v < kRowVectors; ++v) {
      const BlockScales scales = block_scales<kLayout>(header, parameters, v);
      results[v] = add_sub_block<kind.sub_blocks, kind.minimum>(
          sub_block_dot<kLayout, 0>(planes, v, task, block, scales.scale[0]), scales.minimum[0],
          input, 0, results[v]);
      if constexpr (kind.sub_blocks == 1) continue;
      results[v] = add_sub_block<kind.sub_blocks, kind.minimum>(
          sub_block_dot<kLayout, kind.sub_blocks - 1>(planes, v, task, block, scales.scale[1]),
          scales.minimum[1], input, 1, results[v]);
    }
  }
}

/// Groups side by side are as many streams, to which memory delivers more than to one.
template <int kLayout, int kGroups>
void dot_groups(const BlockDotTask& task) {
  constexpr int kSuperBlocks = kBlockLayouts[kLayout].super_blocks;
  constexpr Strides strides = strides_of<kLayout>();
  F results[kGroups][kRowVectors];
  for (auto& group : results) {
    for (F& result : group) result = broadcast(0);
  }
  int64_t place = 0;
  for (int64_t block = 0; block < task.blocks; block += kSuperBlocks, place += strides.super) {
    const int64_t ahead = ahead_of_groups<kGroups>(place, task.group_stride);
    const uint8_t* group = task.group;
    for (int g = 0; g < kGroups; ++g, group += task.group_stride)
      dot_super_block<kLayout>(group + place, ahead, task, block, results[g]);
  }
  for (int g = 0; g < kGroups; ++g) {
    for (int v = 0; v < kRowVectors; ++v)
      store(task.out + g * kGroupRows + v * kLanes, results[g][v]);
  }
}

template <int kLayout>
void block_dot(const BlockDotTask& task) {
  if constexpr (!kOneStream<kLayout>) {
    if (task.groups == 2) return dot_groups<kLayout, 2>(task);
  }
  BlockDotTask one = task;
  for (int64_t g = 0; g < task.groups; ++g) {
    dot_groups<kLayout, 1>(one);
    one.group += task.group_stride;
    one.out += kGroupRows;
  }
}
