// Chunks of coded keys and values to floats: see kv_layout.h.

/// Sixteen lanes of a matrix of codes, and where their values go.
struct CodedLanes {
  const uint8_t* codes;  // of the first lane
  int64_t rows;
  int64_t lanes;  // of the whole matrix
  const float* scales;
  const float* minimums;
  int64_t block_step;  // where each lane has its own scale: to that of the next 32 rows
  float* out;          // [rows][16]
};

inline F float8_to_float(U code) {
  const U bits = ((code & 0x7fu) << 20) | ((code & 0x80u) << 24);
  return reinterpret_cast<F>(bits) * broadcast(0x1p120f);
}

/// emit(row, codes) for the rows of kBits bits each that share bytes.
template <int kBits, class Emit>
inline void for_each_code(const uint8_t* codes, int64_t rows, int64_t lanes, const Emit& emit) {
  constexpr int kRowsPerByte = 8 / kBits;
  constexpr uint32_t kMask = (1u << kBits) - 1;
  for (int64_t row = 0; row < rows; row += kRowsPerByte, codes += lanes) {
    const U bytes = load_codes(codes);
    for (int i = 0; i < kRowsPerByte; ++i) emit(row + i, (bytes >> (i * kBits)) & kMask);
  }
}

template <class Emit>
inline void for_each_code_of_3_bits(const uint8_t* codes, int64_t rows, int64_t lanes,
                                    const Emit& emit) {
  const uint8_t* high = codes + rows / 4 * lanes;
  for (int64_t row = 0; row < rows; row += 8, codes += 2 * lanes, high += lanes) {
    const U upper = load_codes(high);
    for (int half = 0; half < 2; ++half) {
      const U lower = load_codes(codes + half * lanes);
      for (int i = 0; i < 4; ++i) {
        const U third = ((upper >> (4 * half + i)) & 1u) << 2;
        emit(row + 4 * half + i, ((lower >> (2 * i)) & 3u) | third);
      }
    }
  }
}

/// kLanes of the sixteen: from lane `first` on.
template <bool kScaleOfLane, class ForEach>
inline void decode_lanes(const CodedLanes& task, int64_t first, const ForEach& for_each) {
  for_each([&](int64_t row, F level) __attribute__((always_inline)) {
    F scale, minimum;
    if constexpr (kScaleOfLane) {
      const int64_t at = row / kKvBlock * task.block_step + first;
      scale = load(task.scales + at);
      minimum = load(task.minimums + at);
    } else {
      scale = broadcast(task.scales[row]);
      minimum = broadcast(task.minimums[row]);
    }
    store(task.out + row * kGroupRows + first, fma(level, scale, minimum));
  });
}

template <bool kScaleOfLane, int kBits>
inline void decode_levels(const CodedLanes& task, const Levels& levels) {
  for (int64_t first = 0; first < kGroupRows; first += kLanes) {
    decode_lanes<kScaleOfLane>(task, first, [&](const auto& emit) {
      const auto pick_level = [&](int64_t row, U code) { emit(row, pick(levels, code)); };
      if constexpr (kBits == 3) {
        for_each_code_of_3_bits(task.codes + first, task.rows, task.lanes, pick_level);
      } else {
        for_each_code<kBits>(task.codes + first, task.rows, task.lanes, pick_level);
      }
    });
  }
}

/// Codes of `kBytes` bytes that `convert` turns into levels.
template <bool kScaleOfLane, int kBytes, class Convert>
inline void decode_whole(const CodedLanes& task, const Convert& convert) {
  for (int64_t first = 0; first < kGroupRows; first += kLanes) {
    decode_lanes<kScaleOfLane>(task, first, [&](const auto& emit) {
      const uint8_t* codes = task.codes + first * kBytes;
      for (int64_t row = 0; row < task.rows; ++row, codes += task.lanes * kBytes) {
        emit(row, convert(codes));
      }
    });
  }
}

template <bool kScaleOfLane>
void decode_coded(const KvPart& part, const CodedLanes& task) {
  switch (part.codes) {
    case KvCodes::kHalf:
      return decode_whole<kScaleOfLane, 2>(
          task, [](const uint8_t* in) { return load_half(reinterpret_cast<const uint16_t*>(in)); });
    case KvCodes::kBfloat:
      return decode_whole<kScaleOfLane, 2>(task, [](const uint8_t* in) {
        return load_bfloat(reinterpret_cast<const uint16_t*>(in));
      });
    case KvCodes::kFloat8:
      return decode_whole<kScaleOfLane, 1>(
          task, [](const uint8_t* in) { return float8_to_float(load_codes(in)); });
    case KvCodes::kSigned8:
      return decode_whole<kScaleOfLane, 1>(
          task, [](const uint8_t* in) { return load_signed(reinterpret_cast<const int8_t*>(in)); });
    case KvCodes::kLevels:
      break;
  }
  const Levels levels = load_levels(part.levels);
  switch (part.bits) {
    case 1:
      return decode_levels<kScaleOfLane, 1>(task, levels);
    case 2:
      return decode_levels<kScaleOfLane, 2>(task, levels);
    case 3:
      return decode_levels<kScaleOfLane, 3>(task, levels);
    default:
      return decode_levels<kScaleOfLane, 4>(task, levels);
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
  const int64_t used = count > 0 ? count : kKvChunk > width ? kKvChunk : width;
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

/// out: for each of the two groups of 16 keys, [depth][16], the groups `group_stride` apart.
void decode_keys(const KvChunkLayout& layout, const uint8_t* chunk, float* out,
                 int64_t group_stride) {
  KvParameters parameters;
  for (int64_t p = 0; p < layout.part_count; ++p) {
    const KvPart& part = layout.parts[p];
    read_parameters(part, chunk, layout.width, parameters);
    const uint8_t* codes = chunk + part.parameter_bytes;
    const bool of_row = part.scales == KvScales::kNone || part.scales == KvScales::kChannelMinimum;
    for (int64_t group = 0; group < kKvChunk / kGroupRows; ++group) {
      const int64_t offset = of_row ? 0 : group * kGroupRows;
      const CodedLanes task{.codes = codes + group * part.code_bytes / 2,
                            .rows = layout.width,
                            .lanes = kGroupRows,
                            .scales = parameters.scales + offset,
                            .minimums = parameters.minimums + offset,
                            .block_step = part.scales == KvScales::kToken ? 0 : kKvChunk,
                            .out = out + group * group_stride + p * layout.width * kGroupRows};
      if (of_row) {
        decode_coded<false>(part, task);
      } else {
        decode_coded<true>(part, task);
      }
    }
    chunk += part.parameter_bytes + part.code_bytes;
  }
}

/// The first `dims` dimensions. REQUIRES: one part; dims <= width, a multiple of 16.
void decode_values(const KvChunkLayout& layout, const uint8_t* chunk, int64_t dims,
                   const KvStrips& out) {
  const KvPart& part = layout.parts[0];
  KvParameters parameters;
  read_parameters(part, chunk, layout.width, parameters);
  const uint8_t* codes = chunk + part.parameter_bytes;
  const int64_t bytes = part.bits < 8 ? 1 : part.bits / 8;
  const bool of_token = part.scales == KvScales::kToken || part.scales == KvScales::kNone;
  for (int64_t lane = 0; lane < dims; lane += kGroupRows) {
    const int64_t offset = of_token ? 0 : lane / kKvBlock * kKvChunk;
    decode_coded<false>(part, {.codes = codes + lane * bytes,
                               .rows = kKvChunk,
                               .lanes = layout.width,
                               .scales = parameters.scales + offset,
                               .minimums = parameters.minimums + offset,
                               .block_step = 0,
                               .out = out.strips + lane / kGroupRows * out.stride});
  }
}
