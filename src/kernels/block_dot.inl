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

template <int kLayout>
void block_dot(const BlockDotTask& task) {
  constexpr BlockLayout layout = kBlockLayouts[kLayout];
  constexpr Arithmetic kind = arithmetic_of<kLayout>();
  constexpr Strides strides = strides_of<kLayout>();
  constexpr int kSubQuads = kQuads / kind.sub_blocks;
  F results[kRowVectors];
  for (int v = 0; v < kRowVectors; ++v) results[v] = broadcast(0);
  const uint8_t* header = task.group;
  for (int64_t block = 0; block < task.blocks; header += strides.super) {
    const uint8_t* parameters = header + strides.header;
    for (int i = 0; i < layout.super_blocks; ++i, ++block, parameters += strides.block) {
      const uint8_t* planes = parameters + strides.parameters;
      const int8_t* inputs = task.inputs.codes + block * kBlockValues;
      for (int v = 0; v < kRowVectors; ++v) {
        const BlockScales scales = block_scales<kLayout>(header, parameters, v);
        results[v] = add_sub_block<kind.sub_blocks, kind.zero_shift, kind.minimum>(
            quads_dot<kLayout, 0, kSubQuads>(planes, v, inputs), scales.scale[0], scales.minimum[0],
            InputBlock<1>{task.inputs, block}, 0, results[v]);
        if constexpr (kind.sub_blocks == 1) continue;
        results[v] = add_sub_block<kind.sub_blocks, kind.zero_shift, kind.minimum>(
            quads_dot<kLayout, kQuads - kSubQuads, kSubQuads>(planes, v, inputs), scales.scale[1],
            scales.minimum[1], InputBlock<1>{task.inputs, block}, 1, results[v]);
      }
    }
  }
  for (int v = 0; v < kRowVectors; ++v) store(task.out + v * kLanes, results[v]);
}
