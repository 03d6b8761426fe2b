// Inputs become int8 in blocks of 32 with a float scale: half the step of a block of 256 on
// bell-shaped values and far less where a few are large, and no rounding of the scale.

/// Codes of one block; returns its scale. An infinite or missing number makes the scale one too,
/// and so all results.
inline float quantize_block(const float* in, int8_t* out) {
  F highest = broadcast(0);
  F nothing = broadcast(0);  // 0, or NaN if any value is not finite
  for (int i = 0; i < kBlockValues; i += kLanes) {
    const F value = load(in + i);
    highest = maximum(highest, maximum(value, broadcast(0) - value));
    nothing = fma(value, broadcast(0), nothing);
  }
  constexpr float kTiny = 1e-30f;  // below it 127 / largest might overflow
  const float most = largest(highest);
  const F inverse = broadcast(most > kTiny ? 127.0f / most : 0.0f);
  for (int i = 0; i < kBlockValues; i += kLanes) {
    store_int8(out + i, round_even(load(in + i) * inverse));
  }
  return most * (1.0f / 127.0f) + sum(nothing);
}

void quantize_inputs(const float* in, int64_t columns, const BlockInputs& out) {
  for (int64_t block = 0; block < columns / kBlockValues; ++block) {
    int8_t* codes = out.codes + block * kBlockValues;
    const float scale = quantize_block(in + block * kBlockValues, codes);
    int32_t halves[2] = {0, 0};
    for (int i = 0; i < 16; ++i) halves[0] += codes[i];
    for (int i = 16; i < 32; ++i) halves[1] += codes[i];
    out.scales[block] = scale;
    out.sums32[block] = halves[0] + halves[1];
    out.scaled_sums32[block] = scale * static_cast<float>(halves[0] + halves[1]);
    for (int half = 0; half < 2; ++half) {
      out.sums16[2 * block + half] = halves[half];
      out.scaled_sums16[2 * block + half] = scale * static_cast<float>(halves[half]);
    }
  }
}
