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

/// Sums of the 16 codes of each half. As floats, which hold them exactly.
struct CodeSums {
  float halves[2];
};

inline CodeSums sums_of(const int8_t* codes) {
  CodeSums result;
  for (int half = 0; half < 2; ++half) {
    F sums = broadcast(0);
    for (int i = 0; i < 16; i += kLanes) sums = sums + load_signed(codes + 16 * half + i);
    result.halves[half] = sum(sums);
  }
  return result;
}

/// Puts a block where its token has its place among those beside it.
inline void store_block(const int8_t* codes, float scale, int64_t block, const BlockInputs& out) {
  const int64_t side = out.side_by_side;
  for (int q = 0; q < kQuads; ++q)
    __builtin_memcpy(out.codes + (block * kQuads + q) * side * 4, codes + q * 4, 4);
  const CodeSums sums = sums_of(codes);
  const float whole = sums.halves[0] + sums.halves[1];
  out.scales[block * side] = scale;
  out.less32[block * side] = static_cast<int32_t>(-whole);
  out.scaled_sums32[block * side] = scale * whole;
  for (int half = 0; half < 2; ++half) {
    out.less16[(2 * block + half) * side] = static_cast<int32_t>(-sums.halves[half]);
    out.scaled_sums16[(2 * block + half) * side] = scale * sums.halves[half];
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
    alignas(32) int8_t codes[kBlockValues];
    if (own) scale = scale_of(extent_of(values, kBlockValues));
    if (given) {
      quantize_block_within(values, scale.inverse, codes);
    } else {
      quantize_block(values, scale.inverse, codes);
    }
    store_block(codes, scale.scale, block, out);
  }
}
