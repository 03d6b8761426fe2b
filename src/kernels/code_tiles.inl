// Weights and inputs as tiles of int8, where one scale serves a whole row and a whole token.

void tile_codes(const int8_t* in, int64_t tokens, int64_t columns, int8_t* out) {
  for (int64_t t = 0; t < kTileTokens; ++t) {
    for (int64_t k = 0; k < columns; k += kTileCodes) {
      const __m512i codes =
          t < tokens ? _mm512_loadu_si512(in + t * columns + k) : _mm512_setzero_si512();
      _mm512_storeu_si512(out + k * kTileTokens + t * kTileCodes, codes);
    }
  }
}

template <int kLayout, int kQuad>
[[gnu::always_inline]] inline void unpack_code_quads(const uint8_t* planes, int8_t* out) {
  if constexpr (kQuad < kQuads) {
    const B zero = repeat_byte(1 << kBlockLayouts[kLayout].zero_shift);
    _mm512_storeu_si512(out, _mm512_sub_epi8(quad_operand<kLayout, kQuad>(planes, 0), zero));
    unpack_code_quads<kLayout, kQuad + 1>(planes, out + kQuadBytes);
  }
}

template <int kLayout>
void unpack_codes(const uint8_t* group, int64_t first, int64_t count, int8_t* panel) {
  constexpr Strides strides = strides_of<kLayout>();
  static_assert(kBlockLayouts[kLayout].super_blocks == 1 && strides.header == 0 &&
                strides.parameters == 0);
  for (int64_t at = first; at < first + count; ++at, panel += kQuads * kQuadBytes)
    unpack_code_quads<kLayout, 0>(group + at * strides.super, panel);
}
