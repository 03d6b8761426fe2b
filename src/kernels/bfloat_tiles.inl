// Weights and inputs as tiles of bfloats.

constexpr int64_t kTileValues = kTileTokens * kTileColumns;

/// Two vectors as one of bfloats, to nearest even: dword r is [ odd r | even r ].
inline __m512i interleave_rounded(F even, F odd) {
  const __m512i halves = __builtin_bit_cast(__m512i, _mm512_cvtne2ps_pbh(odd, even));
  alignas(64) constexpr uint16_t kOrder[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                               21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                               11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  return _mm512_permutexvar_epi16(_mm512_load_si512(kOrder), halves);
}
inline F even_of(__m512i pairs) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
}
inline F odd_of(__m512i pairs) {
  return _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(-65536)));
}

void tile_weights(const float* in, int64_t depth, const TileParts& out) {
  for (int64_t k = 0; k < depth; k += 2) {
    F even = load(in + k * kGroupRows), odd = load(in + (k + 1) * kGroupRows);
    uint16_t* part = out.first + k * kGroupRows;
    for (int i = 0; i < out.count; ++i, part += out.stride) {
      const __m512i pairs = interleave_rounded(even, odd);
      _mm512_storeu_si512(part, pairs);
      even = even - even_of(pairs);
      odd = odd - odd_of(pairs);
    }
  }
}

/// 32 inputs, one after the other.
inline void tile_row(const float* in, uint16_t* part, const TileParts& out) {
  F low = load(in), high = load(in + kLanes);
  for (int i = 0; i < out.count; ++i, part += out.stride) {
    _mm512_storeu_si512(part, __builtin_bit_cast(__m512i, _mm512_cvtne2ps_pbh(high, low)));
    low = low - load_bfloat(part);
    high = high - load_bfloat(part + kLanes);
  }
}

void tile_inputs(const float* in, int64_t tokens, int64_t columns, const TileParts& out) {
  for (int64_t t = 0; t < kTileTokens; ++t) {
    for (int64_t k = 0; k < columns; k += kTileColumns) {
      uint16_t* part = out.first + k * kTileTokens + t * kTileColumns;
      if (t < tokens) {
        tile_row(in + t * columns + k, part, out);
        continue;
      }
      for (int i = 0; i < out.count; ++i)
        _mm512_storeu_si512(part + i * out.stride, _mm512_setzero_si512());
    }
  }
}

/// scale * code + offset, where the code is byte kByte of each dword. Its bits become the upper
/// ones of a mantissa, 256 + code, which saves a conversion; `offset` has the 256 taken off.
template <int kByte>
inline F scaled_code(B quad, F scale, F offset) {
  B moved;
  if constexpr (kByte < 2) {
    moved = _mm512_slli_epi32(quad, 15 - 8 * kByte);
  } else {
    moved = _mm512_srli_epi32(quad, 8 * kByte - 15);
  }
  constexpr int kSelectThenSet = 0xea;  // (a & b) | c
  const B value = _mm512_ternarylogic_epi32(moved, _mm512_set1_epi32(0xff << 15),
                                            _mm512_set1_epi32(0x43800000), kSelectThenSet);
  return fma(_mm512_castsi512_ps(value), scale, offset);
}

/// Quads [kQuad, 8) of a block. `scale` and `offset` are those of its sub-blocks.
template <int kLayout, int kQuad>
[[gnu::always_inline]] inline void unpack_tile_quads(const uint8_t* planes, const F* scale,
                                                     const F* offset, uint16_t* out) {
  if constexpr (kQuad < kQuads) {
    constexpr int s = kQuad * kBlockLayouts[kLayout].sub_blocks / kQuads;
    const B quad = quad_operand<kLayout, kQuad>(planes, 0);
    _mm512_storeu_si512(out, interleave_rounded(scaled_code<0>(quad, scale[s], offset[s]),
                                                scaled_code<1>(quad, scale[s], offset[s])));
    _mm512_storeu_si512(out + 32, interleave_rounded(scaled_code<2>(quad, scale[s], offset[s]),
                                                     scaled_code<3>(quad, scale[s], offset[s])));
    unpack_tile_quads<kLayout, kQuad + 1>(planes, scale, offset, out + 64);
  }
}

template <int kLayout>
void unpack_tiles(const uint8_t* group, int64_t first, int64_t count, uint16_t* panel) {
  constexpr BlockLayout layout = kBlockLayouts[kLayout];
  constexpr Strides strides = strides_of<kLayout>();
  constexpr int kZero = arithmetic_of<kLayout>().zero_shift;
  constexpr float kBelow = 256 + (kZero == kNoZero ? 0 : 1 << (kZero == kNoZero ? 0 : kZero));
  for (int64_t at = first; at < first + count; ++at) {
    const uint8_t* header = group + at / layout.super_blocks * strides.super;
    const uint8_t* parameters = header + strides.header + at % layout.super_blocks * strides.block;
    const BlockScales scales = block_scales<kLayout>(header, parameters, 0);
    F offset[2] = {};
    for (int s = 0; s < layout.sub_blocks; ++s) {
      offset[s] = broadcast(-kBelow) * scales.scale[s];
      if constexpr (layout.minimum) offset[s] = offset[s] + scales.minimum[s];
    }
    unpack_tile_quads<kLayout, 0>(parameters + strides.parameters, scales.scale, offset, panel);
    panel += kTileValues;
  }
}
