// From packed blocks to codes and parameters. Everything else that depends on the format is in its
// BlockLayout.

/// GGUF's table of IQ4_NL and IQ4_XS plus 128.
constexpr uint8_t kIq4Codes[16] = {1,   24,  45,  63,  79,  93,  106, 118,
                                   129, 141, 153, 166, 181, 197, 217, 241};

/// The values of FP4 (E2M1), doubled, plus 16.
constexpr uint8_t kE2M1Codes[16] = {16, 17, 18, 19, 20, 22, 24, 28, 16, 15, 14, 13, 12, 10, 8, 4};

/// The levels of IQ2 and IQ3, ascending, plus 64 or 16.
constexpr uint8_t kIq2Codes[16] = {21, 39, 56, 72, 89, 107, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64};
constexpr uint8_t kIq3XxsCodes[16] = {2,  12, 20, 28, 36,  44,  52,  60,
                                      68, 76, 84, 92, 100, 108, 116, 126};
constexpr uint8_t kIq3SCodes[16] = {1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31};

/// The layout's sizes as constants: its member functions, called in earnest, would be weak symbols.
struct Strides {
  int super, header, block, parameters;
};

template <int kLayout>
constexpr Strides strides_of() {
  constexpr BlockLayout layout = kBlockLayouts[kLayout];
  constexpr Strides strides = {layout.super_bytes(), layout.super_header_bytes(),
                               layout.block_bytes(), layout.parameter_bytes()};
  return strides;
}

/// The bits of quad kQuad from a plane of kBits, moved up by kUp. `plane` points to the first of
/// kLanes rows.
template <int kBits, int kQuad, int kUp>
B plane_quad(const uint8_t* plane) {
  const B bytes = load_quads(plane + kQuad % kBits * kQuadBytes);
  if constexpr (kBits == 8) return bytes;
  constexpr int kShift = kBits * (kQuad / kBits) - kUp;
  constexpr int kMask = ((1 << kBits) - 1) << kUp;
  if constexpr (kShift >= 0) {
    return shift_right<kShift>(bytes) & repeat_byte(kMask);
  } else {
    return shift_left<-kShift>(bytes) & repeat_byte(kMask);
  }
}

/// The operand of quad kQuad of rows [vector * kLanes, ...) of a block, whose planes begin at
/// `planes`.
template <int kLayout, int kQuad>
B quad_operand(const uint8_t* planes, int vector) {
  constexpr BlockLayout layout = kBlockLayouts[kLayout];
  const uint8_t* low = planes + vector * kLanes * 4;
  B codes = plane_quad<layout.low_bits, kQuad, 0>(low);
  if constexpr (layout.high_bits > 0) {
    codes = codes | plane_quad<layout.high_bits, kQuad, layout.low_bits>(low + layout.low_bits *
                                                                                   kQuadBytes);
  }
  if constexpr (layout.table == CodeTable::kIq4) codes = look_up(codes, kIq4Codes);
  if constexpr (layout.table == CodeTable::kE2M1) codes = look_up(codes, kE2M1Codes);
  if constexpr (layout.table == CodeTable::kIq2) codes = look_up(codes, kIq2Codes);
  if constexpr (layout.table == CodeTable::kIq3Xxs) codes = look_up(codes, kIq3XxsCodes);
  if constexpr (layout.table == CodeTable::kIq3S) codes = look_up(codes, kIq3SCodes);
  constexpr int bits = layout.code_bits();
  return operand<bits>(codes);
}

struct BlockScales {
  F scale[2];    // of each sub-block
  F minimum[2];  // likewise, where the layout has one
};

/// With e = 0 for subnormals: (8 + mantissa) * 2^(e - 10), or mantissa * 2^-9.
inline F load_e4m3(const uint8_t* doubled) {
  const F exponent = load_high_nibbles(doubled), mantissa = load_low_nibbles(doubled);
  const F leading = minimum(exponent, broadcast(1)) * broadcast(16);
  return (mantissa + leading) * power_of_two(maximum(exponent, broadcast(1)) - broadcast(11));
}

template <int kLayout>
F super_scale(const uint8_t* header, int row) {
  constexpr SuperScale kind = kBlockLayouts[kLayout].super_scale;
  const auto* scales = reinterpret_cast<const uint16_t*>(header) + row;
  if constexpr (kind == SuperScale::kHalf && kBlockLayouts[kLayout].unit != 1)
    return load_half(scales) * broadcast(kBlockLayouts[kLayout].unit);
  if constexpr (kind == SuperScale::kHalf) return load_half(scales);
  if constexpr (kind == SuperScale::kPower) return load_bfloat(scales);
  return broadcast(kind == SuperScale::kRow ? 1.0f : 0.5f);
}

/// What multiplies the codes of kLanes rows, and what is added for each unit of input. `header` is
/// the super-block's, `parameters` the block's.
template <int kLayout>
BlockScales block_scales(const uint8_t* header, const uint8_t* parameters, int vector) {
  constexpr BlockLayout layout = kBlockLayouts[kLayout];
  const int row = vector * kLanes;
  BlockScales result;
  const F scale = super_scale<kLayout>(header, row);
  F minimum = broadcast(0);
  if constexpr (layout.minimum)
    minimum = load_half(reinterpret_cast<const uint16_t*>(header) + 16 + row);
  for (int s = 0; s < layout.sub_blocks; ++s) {
    if constexpr (layout.sub_scale == SubScale::kNone) {
      result.scale[s] = scale;
      result.minimum[s] = minimum;
    } else if constexpr (layout.sub_scale == SubScale::kSigned) {
      result.scale[s] =
          scale * load_signed(reinterpret_cast<const int8_t*>(parameters) + 16 * s + row);
    } else if constexpr (layout.sub_scale == SubScale::kUnsigned) {
      result.scale[s] = scale * load_unsigned(parameters + 32 * s + row);
      result.minimum[s] = minimum * load_unsigned(parameters + 32 * s + 16 + row);
    } else if constexpr (layout.sub_scale == SubScale::kE4M3) {
      result.scale[s] = scale * load_e4m3(parameters + 16 * s + row);
    } else {
      result.scale[s] = scale * load_low_nibbles(parameters + 16 * s + row);
      result.minimum[s] = minimum * load_high_nibbles(parameters + 16 * s + row);
    }
  }
  return result;
}

/// What the arithmetic of a layout depends on once its codes are bytes. Layouts that agree in it
/// share their code.
struct Arithmetic {
  int bits;        // of the codes
  int sub_blocks;  // in 32 values
  int zero_shift;  // 2^zero_shift is subtracted from codes by way of the inputs' sum; kNoZero:
                   // nothing is
  bool minimum;
};

template <int kLayout>
constexpr Arithmetic arithmetic_of() {
  constexpr BlockLayout layout = kBlockLayouts[kLayout];
  const bool zero_is_gone = kSignedBytes && layout.code_bits() == 8;
  return {layout.code_bits(), layout.sub_blocks, zero_is_gone ? kNoZero : layout.zero_shift,
          layout.minimum};
}
