// Coded keys and values (kv_layout.h) as floats. A reader turns codes into levels, a vector of
// lanes at a time; what is done with them is the caller's: they are stored as floats, or multiplied
// and added where they are.

/// Rows of codes from some lane on.
struct CodeRows {
  const uint8_t* codes;
  const uint8_t* third_bits;  // of codes of 3 bits
  int64_t rows;
  int64_t lanes;  // of the whole matrix: what a row of them takes
  int64_t bits;   // of a code in `codes`

  // Rows that share a byte stay together.
  CodeRows at(int64_t row, int64_t lane, int64_t row_count) const {
    const int64_t lane_bytes = bits > 8 ? bits / 8 : 1;
    return {codes + row * lanes * bits / 8 + lane * lane_bytes, third_bits + row * lanes / 8 + lane,
            row_count, lanes, bits};
  }
};

inline CodeRows code_rows(const KvPart& part, const uint8_t* codes, int64_t rows, int64_t lanes) {
  if (part.bits != 3) return {codes, codes, rows, lanes, part.bits};
  return {codes, codes + rows * lanes / 4, rows, lanes, 2};
}

inline F float8_to_float(U code) {
  const U bits = ((code & 0x7fu) << 20) | ((code & 0x80u) << 24);
  return reinterpret_cast<F>(bits) * broadcast(0x1p120f);
}

// each<kVectors>(rows, emit) calls emit(row, i, v, level) for all rows in order; lanes v kLanes and
// following. i counts the rows of a step of the loop, which are a multiple of two. kTakesRegisters:
// where two vectors of rows and what is made of them fill most of 32 registers.

template <int kBytes, class Convert>
struct WholeReader {
  static constexpr bool kTakesRegisters = false;

  Convert convert;

  template <int kVectors, class Emit>
  void each(const CodeRows& in, const Emit& emit) const {
    const uint8_t* codes = in.codes;
    for (int64_t row = 0; row < in.rows; row += 2) {
      for (int i = 0; i < 2; ++i, codes += in.lanes * kBytes) {
        for (int v = 0; v < kVectors; ++v)
          emit(row + i, i, v, convert(codes + v * kLanes * kBytes));
      }
    }
  }
};

template <int kBits>
struct LevelReader {
  static constexpr bool kTakesRegisters = false;

  Levels levels;

  template <int kVectors, class Emit>
  void each(const CodeRows& in, const Emit& emit) const {
    constexpr int kRows = 8 / kBits;
    constexpr uint32_t kMask = (1u << kBits) - 1;
    const uint8_t* codes = in.codes;
    for (int64_t row = 0; row < in.rows; row += kRows, codes += in.lanes) {
      U bytes[kVectors];
      for (int v = 0; v < kVectors; ++v) bytes[v] = load_codes(codes + v * kLanes);
      for (int i = 0; i < kRows; ++i) {
        for (int v = 0; v < kVectors; ++v) {
          emit(row + i, i, v, pick(levels, (bytes[v] >> (i * kBits)) & kMask));
        }
      }
    }
  }
};

template <>
struct LevelReader<3> {
  static constexpr bool kTakesRegisters = true;

  Levels levels;

  template <int kVectors, class Emit>
  void each(const CodeRows& in, const Emit& emit) const {
    const uint8_t* codes = in.codes;
    const uint8_t* third = in.third_bits;
    for (int64_t row = 0; row < in.rows; row += 8, codes += 2 * in.lanes, third += in.lanes) {
      U low[2][kVectors], high[kVectors];
      for (int v = 0; v < kVectors; ++v) {
        low[0][v] = load_codes(codes + v * kLanes);
        low[1][v] = load_codes(codes + in.lanes + v * kLanes);
        high[v] = load_codes(third + v * kLanes) << 2;
      }
      for (int i = 0; i < 8; ++i) {
        for (int v = 0; v < kVectors; ++v) {
          const U code = ((low[i / 4][v] >> (2 * (i % 4))) & 3u) | ((high[v] >> i) & 4u);
          emit(row + i, i, v, pick(levels, code));
        }
      }
    }
  }
};

template <int kBytes, class Convert, class Body>
inline void with_whole(const Convert& convert, const Body& body) {
  body(WholeReader<kBytes, Convert>{convert});
}

/// body(reader) of the part's codes.
template <class Body>
inline void with_reader(const KvPart& part, const Body& body) {
  switch (part.codes) {
    case KvCodes::kHalf:
      return with_whole<2>(
          [](const uint8_t* in) { return load_half(reinterpret_cast<const uint16_t*>(in)); }, body);
    case KvCodes::kBfloat:
      return with_whole<2>(
          [](const uint8_t* in) { return load_bfloat(reinterpret_cast<const uint16_t*>(in)); },
          body);
    case KvCodes::kFloat8:
      return with_whole<1>([](const uint8_t* in) { return float8_to_float(load_codes(in)); }, body);
    case KvCodes::kSigned8:
      return with_whole<1>(
          [](const uint8_t* in) { return load_signed(reinterpret_cast<const int8_t*>(in)); }, body);
    case KvCodes::kLevels:
      break;
  }
  const Levels levels = load_levels(part.levels);
  switch (part.bits) {
    case 1:
      return body(LevelReader<1>{levels});
    case 2:
      return body(LevelReader<2>{levels});
    case 3:
      return body(LevelReader<3>{levels});
    default:
      return body(LevelReader<4>{levels});
  }
}

/// Of one part of a chunk, as floats: 1 and 0 where it has none.
struct KvParameters {
  float scales[kKvWidestHead];
  float minimums[kKvWidestHead];
};

inline void read_parameters(const KvPart& part, const uint8_t* chunk, int64_t width,
                            KvParameters& out) {
  const int64_t count = part.scale_count;
  const auto* halves = reinterpret_cast<const uint16_t*>(chunk);
  const int64_t used = count > 0 ? count : width;
  if (count > 0) {
    halves_to_floats(halves, count, out.scales);
  } else {
    for (int64_t i = 0; i < used; ++i) out.scales[i] = 1;
  }
  if (part.has_minimums) {
    halves_to_floats(halves + count, count, out.minimums);
  } else {
    for (int64_t i = 0; i < used; ++i) out.minimums[i] = 0;
  }
}

inline bool scales_are_of_keys(const KvPart& part) {
  return part.scales == KvScales::kToken || part.scales == KvScales::kBlock;
}

/// Keys: the codes of a group of 16.
inline CodeRows key_rows(const KvPart& part, const uint8_t* chunk, int64_t width, int64_t group) {
  const uint8_t* codes = chunk + part.parameter_bytes;
  return code_rows(part, codes + group * part.code_bytes / 2, width, kGroupRows);
}

/// out: for each of the two groups of 16 keys, [depth][16], the groups `group_stride` apart.
void decode_keys(const KvChunkLayout& layout, const uint8_t* chunk, float* out,
                 int64_t group_stride) {
  KvParameters parameters;
  for (int64_t p = 0; p < layout.part_count; ++p) {
    const KvPart& part = layout.parts[p];
    read_parameters(part, chunk, layout.width, parameters);
    const bool of_keys = scales_are_of_keys(part);
    const int64_t block_step = part.scales == KvScales::kBlock ? kKvChunk : 0;
    with_reader(part, [&](const auto& reader) {
      for (int64_t lane = 0; lane < kKvChunk; lane += kLanes) {
        const int64_t group = lane / kGroupRows;
        const CodeRows rows =
            key_rows(part, chunk, layout.width, group).at(0, lane % kGroupRows, layout.width);
        float* to = out + group * group_stride + p * layout.width * kGroupRows + lane % kGroupRows;
        reader.template each<1>(rows, [&](int64_t row, int, int, F level) {
          const int64_t at = row / kKvBlock * block_step + lane;
          const F scale =
              of_keys ? load(parameters.scales + at) : broadcast(parameters.scales[row]);
          const F minimum =
              of_keys ? load(parameters.minimums + at) : broadcast(parameters.minimums[row]);
          store(to + row * kGroupRows, fma(level, scale, minimum));
        });
      }
    });
    chunk += part.parameter_bytes + part.code_bytes;
  }
}

/// Where the scales of values' dimensions from `lane` on begin.
inline int64_t first_scale(const KvPart& part, int64_t lane) {
  const bool of_blocks = part.scales == KvScales::kBlock || part.scales == KvScales::kBlockMinimum;
  return of_blocks ? lane / kKvBlock * kKvChunk : 0;
}

/// The first `dims` dimensions. REQUIRES: one part; dims <= width, a multiple of 16.
void decode_values(const KvChunkLayout& layout, const uint8_t* chunk, int64_t dims,
                   const KvStrips& out) {
  const KvPart& part = layout.parts[0];
  KvParameters parameters;
  read_parameters(part, chunk, layout.width, parameters);
  const CodeRows rows = code_rows(part, chunk + part.parameter_bytes, kKvChunk, layout.width);
  with_reader(part, [&](const auto& reader) {
    for (int64_t lane = 0; lane < dims; lane += kLanes) {
      const int64_t offset = first_scale(part, lane);
      float* to = out.strips + lane / kGroupRows * out.stride + lane % kGroupRows;
      reader.template each<1>(rows.at(0, lane, kKvChunk), [&](int64_t row, int, int, F level) {
        store(to + row * kGroupRows, fma(level, broadcast(parameters.scales[offset + row]),
                                         broadcast(parameters.minimums[offset + row])));
      });
    }
  });
}
