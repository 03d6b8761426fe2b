// From sums of products of codes to results.

/// Inputs of one token of kSide that lie side by side, at one block.
template <int kSide>
struct InputBlock {
  const BlockInputs& inputs;  // of the token
  int64_t block;

  float scale() const { return inputs.scales[block * kSide]; }
  float scaled_sum(int sub_blocks, int s) const {
    return sub_blocks == 1 ? inputs.scaled_sums32[block * kSide]
                           : inputs.scaled_sums16[(2 * block + s) * kSide];
  }
};

// Where a multiply-add rounds once, sums of products become floats for nothing. They start from the
// bits of kSumBias = 1.5 * 2^23, whose last bit is worth 1, so that the bits of any sum below 2^22
// are those of kSumBias + sum; with codes of 8 bits it is at most 32 * 255 * 127. And
//
//     (kSumBias + sum) * scale - kSumBias * scale
//
// is sum * scale, rounded once: scales are halves times at most 8 bits, or powers of two, so that
// kSumBias times them is exact (below 2^104: a larger one makes the result NaN).
constexpr float kSumBias = 12582912;
constexpr int32_t kSumStart = kFused ? 0x4b400000 : 0;

/// What sums of products with unsigned codes start from, see KernelTable. Without signs: for tokens
/// that are missing beside others `less` is anything.
void start_sums(const int32_t* less, int64_t count, int zero_shift, int32_t* out) {
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t shifted = static_cast<uint32_t>(less[i]) << zero_shift;
    out[i] = static_cast<int32_t>(shifted + static_cast<uint32_t>(kSumStart));
  }
}

/// What those of sub-block s of a block of a token start from. `starts`: of the first of kSide
/// tokens; null where codes have no zero point.
template <int kSubBlocks, int kZeroShift, int kSide>
[[gnu::always_inline]] inline I start_of(const int32_t* starts, int64_t block, int s, int token) {
  if constexpr (kZeroShift == kNoZero) return repeat_int(kSumStart);
  return repeat_int(starts[(block * kSubBlocks + s) * kSide + token]);
}

/// The scale of rows for sums that may have started from kSumStart.
struct SumScale {
  F scale, bias;
};
[[gnu::always_inline]] inline SumScale sum_scale(F scale) {
  return {scale, scale * broadcast(-kSumBias)};
}
template <bool kStarted>
[[gnu::always_inline]] inline F scaled_sum(I total, const SumScale& scale) {
  if constexpr (kFused && kStarted) return fma(bits_as_float(total), scale.scale, scale.bias);
  return to_float(total) * scale.scale;
}
/// The same where no other token shares the scale: with fewer steps.
[[gnu::always_inline]] inline F scaled_sum(I total, F scale) {
  if constexpr (kFused) return (bits_as_float(total) - broadcast(kSumBias)) * scale;
  return to_float(total) * scale;
}

/// result + one sub-block, whose sums are scaled by the weights' scale. Few and many tokens get the
/// same bits.
template <int kSubBlocks, bool kMinimum, class Input>
[[gnu::always_inline]] inline F add_sub_block(F sum, F minimum, const Input& input, int s,
                                              F result) {
  result = fma(sum, broadcast(input.scale()), result);
  if constexpr (kMinimum) result = fma(minimum, broadcast(input.scaled_sum(kSubBlocks, s)), result);
  return result;
}
