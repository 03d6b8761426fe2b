// Inputs become int8 in blocks of 32 with a float scale: half the step of a block of 256 on
// bell-shaped values and far less where a few are large, and no rounding of the scale. Or with one
// scale for the row, as weights in int8 are made for.

/// The largest magnitude, and 0, or NaN if any value is not finite.
struct Extent {
  float most, nothing;
};

inline Extent extent_of(const float* in, int64_t count) {
  F highest = broadcast(0);
  F nothing = broadcast(0);
  for (int64_t i = 0; i < count; i += kLanes) {
    const F value = load(in + i);
    highest = maximum(highest, maximum(value, broadcast(0) - value));
    nothing = fma(value, broadcast(0), nothing);
  }
  return {largest(highest), sum(nothing)};
}

struct InputScale {
  float inverse, scale;
};

/// An infinite or missing number makes the scale one too, and so all results.
inline InputScale scale_of(Extent extent) {
  constexpr float kTiny = 1e-30f;  // below it 127 / largest might overflow
  return {extent.most > kTiny ? 127.0f / extent.most : 0.0f,
          extent.most * (1.0f / 127.0f) + extent.nothing};
}

inline void quantize_block(const float* in, float inverse, int8_t* out) {
  for (int i = 0; i < kBlockValues; i += kLanes) {
    store_int8(out + i, round_even(load(in + i) * broadcast(inverse)));
  }
}

/// The same where a scale is given that is not of these values: what is beyond is cut off.
inline void quantize_block_within(const float* in, float inverse, int8_t* out) {
  for (int i = 0; i < kBlockValues; i += kLanes) {
    const F code = load(in + i) * broadcast(inverse);
    store_int8(out + i, round_even(maximum(minimum(code, broadcast(127)), broadcast(-127))));
  }
}

inline void add_up_block(const int8_t* codes, float scale, int64_t block, const BlockInputs& out) {
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

void quantize_inputs(const float* in, int64_t columns, const CodeScales& scales,
                     const BlockInputs& out) {
  const bool own = scales.of == CodeScales::kBlock, given = scales.of == CodeScales::kGiven;
  InputScale scale{};
  if (!own) {
    const Extent extent = extent_of(in, columns);
    scale = scale_of(extent);
    if (given) scale = {1.0f / scales.given, scales.given + extent.nothing};
  }
  for (int64_t block = 0; block < columns / kBlockValues; ++block) {
    const float* values = in + block * kBlockValues;
    int8_t* codes = out.codes + block * kBlockValues;
    if (own) scale = scale_of(extent_of(values, kBlockValues));
    if (given) {
      quantize_block_within(values, scale.inverse, codes);
    } else {
      quantize_block(values, scale.inverse, codes);
    }
    add_up_block(codes, scale.scale, block, out);
  }
}
