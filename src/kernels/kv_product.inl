// The products of attention for few queries, straight from keys and values as they lie: levels are
// multiplied with queries or weights as they come from the codes. Scales are applied to sums where
// each lane has its own (keys), and to what is multiplied where each row has (values, channels).

// Queries whose sums are kept in registers at once, and vectors of lanes.
constexpr int kCodedQueries = kLanes == 16 ? 8 : 4;
constexpr int kKeyVectors = kLanes == 16 ? 1 : 2;
constexpr int kValueVectors = 2;

/// Where there are registers for two chains of sums: one alone waits for each fma, unless there are
/// many of them. Codes of three bits leave none.
template <class Reader, int kQueries>
constexpr int kChainsOf = kLanes == 16 && kQueries <= 4 && !Reader::kTakesRegisters ? 2 : 1;

template <int kQueries, int kVectors, int kChains>
struct CodedSums {
  F sums[kChains][kQueries][kVectors];

  void clear() {
    for (int c = 0; c < kChains; ++c) {
      for (int q = 0; q < kQueries; ++q) {
        for (int v = 0; v < kVectors; ++v) sums[c][q][v] = broadcast(0);
      }
    }
  }

  /// Adds the rows, each times its factor of each query.
  template <class Reader>
  void add(const Reader& reader, const CodeRows& rows, const float* factors, int64_t stride) {
    reader.template each<kVectors>(
        rows, [&](int64_t row, int i, int v, F level) __attribute__((always_inline)) {
          for (int q = 0; q < kQueries; ++q) {
            F& sum = sums[i % kChains][q][v];
            sum = fma(broadcast(factors[q * stride + row]), level, sum);
          }
        });
  }

  F total(int query, int v) const {
    F all = sums[0][query][v];
    for (int c = 1; c < kChains; ++c) all = all + sums[c][query][v];
    return all;
  }
};

/// A group of 16 keys times some queries.
struct KeyGroupTask {
  CodeRows rows;
  const float* factors;  // [queries][stride]
  int64_t stride;
  const float* scales;  // of the lanes, or null
  int64_t block_rows;   // that share a lane's scale; those of the next ones stand kKvChunk behind
  const float* start;   // [queries], added to all scores
  float* scores;        // [queries][kKeyTile]
  bool accumulate;
};

/// Of a lane's block of rows, or null.
inline const float* block_scales(const KeyGroupTask& task, int64_t row, int64_t lane) {
  return task.scales == nullptr ? nullptr : task.scales + row / kKvBlock * kKvChunk + lane;
}

template <int kQueries, int kChains>
inline void add_scaled_sums(const CodedSums<kQueries, kKeyVectors, kChains>& sums,
                            const float* scales, F (&scores)[kQueries][kKeyVectors]) {
  for (int v = 0; v < kKeyVectors; ++v) {
    const F scale = scales == nullptr ? broadcast(1) : load(scales + v * kLanes);
    for (int q = 0; q < kQueries; ++q) {
      scores[q][v] = fma(sums.total(q, v), scale, scores[q][v]);
    }
  }
}

template <int kQueries, class Reader>
void score_group(const Reader& reader, const KeyGroupTask& task) {
  for (int64_t lane = 0; lane < kGroupRows; lane += kKeyVectors * kLanes) {
    F scores[kQueries][kKeyVectors];
    for (int q = 0; q < kQueries; ++q) {
      for (int v = 0; v < kKeyVectors; ++v) {
        const F start = broadcast(task.start[q]);
        scores[q][v] =
            task.accumulate ? load(task.scores + q * kKeyTile + lane + v * kLanes) + start : start;
      }
    }
    for (int64_t row = 0; row < task.rows.rows; row += task.block_rows) {
      CodedSums<kQueries, kKeyVectors, kChainsOf<Reader, kQueries>> sums;
      sums.clear();
      sums.add(reader, task.rows.at(row, lane, task.block_rows), task.factors + row, task.stride);
      add_scaled_sums(sums, block_scales(task, row, lane), scores);
    }
    for (int q = 0; q < kQueries; ++q) {
      for (int v = 0; v < kKeyVectors; ++v) {
        store(task.scores + q * kKeyTile + lane + v * kLanes, scores[q][v]);
      }
    }
  }
}

/// Values of some tokens and dimensions, added to the sums of some queries.
struct ValueLanesTask {
  CodeRows rows;
  int64_t lanes;         // a multiple of kKvBlock
  const float* factors;  // [queries][factor_stride]
  int64_t factor_stride;
  const float* start;  // [queries], added to all sums
  float* sums;         // [queries][stride]
  int64_t stride;
};

template <int kQueries, class Reader>
void add_lanes(const Reader& reader, const ValueLanesTask& task) {
  for (int64_t lane = 0; lane < task.lanes; lane += kValueVectors * kLanes) {
    CodedSums<kQueries, kValueVectors, kChainsOf<Reader, kQueries>> sums;
    sums.clear();
    sums.add(reader, task.rows.at(0, lane, task.rows.rows), task.factors, task.factor_stride);
    for (int q = 0; q < kQueries; ++q) {
      for (int v = 0; v < kValueVectors; ++v) {
        float* to = task.sums + q * task.stride + lane + v * kLanes;
        store(to, load(to) + sums.total(q, v) + broadcast(task.start[q]));
      }
    }
  }
}

/// body(std-like constant) for the number of queries, at most kQueries.
template <int kQueries>
struct QueryCount {
  static constexpr int value = kQueries;
};

template <int kQueries, class Body>
inline void with_query_count(int64_t queries, const Body& body) {
  if constexpr (kQueries > 0) {
    if (queries == kQueries) return body(QueryCount<kQueries>{});
    with_query_count<kQueries - 1>(queries, body);
  }
}

/// Queries [first, first + count) of a task, at most kCodedQueries.
struct QueryRange {
  int64_t first, count;
};

/// A query for keys whose channels have scales and minimums: factors = query * scales; returns
/// query . minimums.
inline float scale_query(const float* query, const KvParameters& parameters, int64_t width,
                         float* factors) {
  for (int64_t d = 0; d < width; d += kLanes) {
    store(factors + d, load(query + d) * load(parameters.scales + d));
  }
  return dot(query, parameters.minimums, width);
}

/// Scores of the chunk's keys, that stand `key` behind the tile's first.
inline void score_chunk(const AttentionTask& task, const AttentionScratch& scratch,
                        const QueryRange& queries, const uint8_t* chunk, int64_t key) {
  const KvChunkLayout& layout = task.coded->key_layout;
  KvParameters parameters;
  float factors[kCodedQueries * kKvWidestHead];
  for (int64_t p = 0; p < layout.part_count; ++p) {
    const KvPart& part = layout.parts[p];
    const float* inputs = task.queries + queries.first * task.query_stride + p * layout.width;
    int64_t stride = task.query_stride;
    float start[kCodedQueries] = {};
    read_parameters(part, chunk, layout.width, parameters);
    const bool of_keys = scales_are_of_keys(part);
    if (part.scales == KvScales::kChannelMinimum) {
      for (int64_t q = 0; q < queries.count; ++q) {
        start[q] =
            scale_query(inputs + q * stride, parameters, layout.width, factors + q * layout.width);
      }
      inputs = factors;
      stride = layout.width;
    }
    with_reader(part, [&](const auto& reader) {
      with_query_count<kCodedQueries>(queries.count, [&](auto count) {
        for (int64_t group = 0; group < kKvChunk / kGroupRows; ++group) {
          const int64_t lane = group * kGroupRows;
          score_group<decltype(count)::value>(
              reader, {.rows = key_rows(part, chunk, layout.width, group),
                       .factors = inputs,
                       .stride = stride,
                       .scales = of_keys ? parameters.scales + lane : nullptr,
                       .block_rows = part.scales == KvScales::kBlock ? kKvBlock : layout.width,
                       .start = start,
                       .scores = scratch.scores + queries.first * kKeyTile + key + lane,
                       .accumulate = p > 0});
        }
      });
    });
    chunk += part.parameter_bytes + part.code_bytes;
  }
}

/// Adds the chunk's values by the weights in the scores.
inline void add_chunk(const AttentionTask& task, const AttentionScratch& scratch,
                      const QueryRange& queries, const uint8_t* chunk, int64_t key) {
  const KvChunkLayout& layout = task.coded->value_layout;
  const KvPart& part = layout.parts[0];
  KvParameters parameters;
  read_parameters(part, chunk, layout.width, parameters);
  const CodeRows rows = code_rows(part, chunk + part.parameter_bytes, kKvChunk, layout.width);
  const bool of_blocks = first_scale(part, kKvBlock) > 0;
  const int64_t lanes = of_blocks ? kKvBlock : scratch.width;
  with_reader(part, [&](const auto& reader) {
    with_query_count<kCodedQueries>(queries.count, [&](auto count) {
      for (int64_t lane = 0; lane < scratch.width; lane += lanes) {
        float factors[kCodedQueries * kKvChunk], start[kCodedQueries] = {};
        const int64_t offset = first_scale(part, lane);
        for (int64_t q = 0; q < queries.count; ++q) {
          const float* weights = scratch.scores + (queries.first + q) * kKeyTile + key;
          for (int64_t j = 0; j < kKvChunk; j += kLanes) {
            store(factors + q * kKvChunk + j,
                  load(weights + j) * load(parameters.scales + offset + j));
          }
          if (part.has_minimums) start[q] = dot(weights, parameters.minimums + offset, kKvChunk);
        }
        add_lanes<decltype(count)::value>(
            reader, {.rows = rows.at(0, lane, kKvChunk),
                     .lanes = lanes,
                     .factors = factors,
                     .factor_stride = kKvChunk,
                     .start = start,
                     .sums = scratch.sums + queries.first * scratch.width + lane,
                     .stride = scratch.width});
      }
    });
  });
}

/// body(queries) for ranges of all queries.
template <class Body>
inline void for_each_range(const AttentionTask& task, const Body& body) {
  for (int64_t first = 0; first < task.query_count; first += kCodedQueries) {
    const int64_t rest = task.query_count - first;
    body(QueryRange{first, rest < kCodedQueries ? rest : kCodedQueries});
  }
}

/// More queries than these are multiplied with floats that a tile is turned into once for all.
constexpr int64_t kMostDirectQueries = 8;

/// A whole tile of halves, few queries. REQUIRES: head_dim in pairs, value_dim in whole blocks.
inline void attend_whole_tile(const AttentionTask& task, const AttentionScratch& scratch,
                              const KeyTile<uint16_t>& tile) {
  const float zeros[kCodedQueries] = {};
  const KvPart halves{};
  const auto* keys = reinterpret_cast<const uint8_t*>(tile.keys);
  const auto* values = reinterpret_cast<const uint8_t*>(tile.values);
  const auto for_ranges = [&](const auto& body) {
    for_each_range(task, [&](const QueryRange& queries) {
      with_query_count<kCodedQueries>(queries.count, [&](auto count) { body(queries, count); });
    });
  };
  const auto load_ahead = [](const uint8_t* in) {
    __builtin_prefetch(in + kAhead);
    return load_half(reinterpret_cast<const uint16_t*>(in));
  };
  with_whole<2>(load_ahead, [&](const auto& reader) {
    for_ranges([&](const QueryRange& queries, auto count) {
      for (int64_t key = 0; key < kKeyTile; key += kGroupRows) {
        score_group<decltype(count)::value>(
            reader,
            {.rows = code_rows(halves, keys + 2 * key * task.head_dim, task.head_dim, kGroupRows),
             .factors = task.queries + queries.first * task.query_stride,
             .stride = task.query_stride,
             .scales = nullptr,
             .block_rows = task.head_dim,
             .start = zeros,
             .scores = scratch.scores + queries.first * kKeyTile + key,
             .accumulate = false});
      }
    });
    weigh_tile(task, scratch, 0, task.query_count, tile);
    for_ranges([&](const QueryRange& queries, auto count) {
      add_lanes<decltype(count)::value>(
          reader, {.rows = code_rows(halves, values, kKeyTile, task.value_dim),
                   .lanes = scratch.width,
                   .factors = scratch.scores + queries.first * kKeyTile,
                   .factor_stride = kKeyTile,
                   .start = zeros,
                   .sums = scratch.sums + queries.first * scratch.width,
                   .stride = scratch.width});
    });
  });
}

/// A tile of coded keys, few queries. REQUIRES: value_dim in whole blocks.
inline void attend_codes(const AttentionTask& task, const AttentionScratch& scratch,
                         const KeyTile<float>& tile) {
  const CodedKeys& coded = *task.coded;
  const int64_t first_chunk = (tile.begin - coded.first) / kKvChunk;
  for (int64_t key = 0; key < tile.count; key += kKvChunk) {
    const int64_t chunk = first_chunk + key / kKvChunk;
    ask_for(coded.keys + (chunk + 1) * coded.key_layout.chunk_bytes, coded.key_layout.chunk_bytes);
    for_each_range(task, [&](const QueryRange& queries) {
      score_chunk(task, scratch, queries, coded.keys + chunk * coded.key_layout.chunk_bytes, key);
    });
  }
  weigh_tile(task, scratch, 0, task.query_count, tile);
  for (int64_t key = 0; key < tile.count; key += kKvChunk) {
    const int64_t chunk = first_chunk + key / kKvChunk;
    ask_for(coded.values + (chunk + 1) * coded.value_layout.chunk_bytes,
            coded.value_layout.chunk_bytes);
    for_each_range(task, [&](const QueryRange& queries) {
      add_chunk(task, scratch, queries, coded.values + chunk * coded.value_layout.chunk_bytes, key);
    });
  }
}
