// Attention by online softmax. Both products (queries x keys, weights x values) are the float
// product of float_panel.inl over a tile of keys that was turned into floats once for all queries:
//
//   key panels    [tile / 16][head_dim][16 keys]
//   value panels  [head_dim / 16][tile][16 dimensions]
//
// For each query the running maximum, the running sum of weights and the unnormalised output are
// kept in scratch.

struct AttentionScratch {
  float* key_panels;
  float* value_panels;
  float* scores;   // [kQueryTile][kKeyTile]
  float* highest;  // [query_count]
  float* total;    // [query_count]
  float* sums;     // [query_count][width]
  int64_t width;   // head_dim in whole panels
};

inline AttentionScratch attention_scratch(const AttentionTask& task) {
  AttentionScratch scratch;
  scratch.width = (task.head_dim + kHeadStep - 1) / kHeadStep * kHeadStep;
  scratch.key_panels = task.scratch;
  scratch.value_panels = scratch.key_panels + kKeyTile * scratch.width;
  scratch.scores = scratch.value_panels + kKeyTile * scratch.width;
  scratch.highest = scratch.scores + kQueryTile * kKeyTile;
  scratch.total = scratch.highest + task.query_count;
  scratch.sums = scratch.total + task.query_count;
  return scratch;
}

/// Dimensions [first, head_dim) of one key, one by one.
inline void scatter_key(const uint16_t* key, int64_t first, int64_t head_dim, float* panel) {
  for (int64_t d = first; d < head_dim; ++d) halves_to_floats(key + d, 1, panel + d * kGroupRows);
}

/// Keys [first, first + kLanes) of a tile into their column of a panel; keys from `count` on are
/// zeros.
inline void fill_key_column(const uint16_t* keys, int64_t first, int64_t count, int64_t head_dim,
                            float* panel) {
  const int64_t whole = head_dim / kLanes * kLanes;
  for (int64_t d = 0; d < whole; d += kLanes) {
    F rows[kLanes];
    for (int j = 0; j < kLanes; ++j) {
      rows[j] = first + j < count ? load_half(keys + (first + j) * head_dim + d) : broadcast(0);
    }
    transpose(rows);
    for (int i = 0; i < kLanes; ++i) store(panel + (d + i) * kGroupRows, rows[i]);
  }
  for (int64_t j = 0; j < kLanes; ++j) {
    for (int64_t d = whole; d < head_dim; ++d) panel[d * kGroupRows + j] = 0;
    if (first + j < count) scatter_key(keys + (first + j) * head_dim, whole, head_dim, panel + j);
  }
}

inline void fill_key_panels(const uint16_t* keys, int64_t count, int64_t head_dim, float* panels) {
  for (int64_t j = 0; j < count; j += kLanes) {
    float* panel = panels + j / kGroupRows * head_dim * kGroupRows + j % kGroupRows;
    fill_key_column(keys, j, count, head_dim, panel);
  }
  // The last panel is multiplied whole: what lies beyond the last column must be a number.
  for (int64_t j = (count + kLanes - 1) / kLanes * kLanes; j % kGroupRows != 0; j += kLanes) {
    fill_key_column(keys, j, count, head_dim,
                    panels + j / kGroupRows * head_dim * kGroupRows + j % kGroupRows);
  }
}

/// Dimensions beyond head_dim are zeros.
inline void fill_value_panels(const uint16_t* values, int64_t count, int64_t head_dim,
                              float* panels) {
  for (int64_t d = 0; d < head_dim; d += kHeadStep, panels += kKeyTile * kHeadStep) {
    const int64_t n = head_dim - d < kHeadStep ? head_dim - d : kHeadStep;
    for (int64_t j = 0; j < count; ++j) {
      float* row = panels + j * kHeadStep;
      for (int64_t i = n; i < kHeadStep; ++i) row[i] = 0;
      halves_to_floats(values + j * head_dim + d, n, row);
    }
  }
}

/// Scores of keys that a query does not see of the tile: those from `end` on and those before
/// `begin`.
inline void hide_scores(int64_t begin, int64_t end, float* scores) {
  for (int64_t j = end; j < kKeyTile; ++j) scores[j] = -__builtin_inff();
  for (int64_t j = 0; j < begin; ++j) scores[j] = -__builtin_inff();
}

/// Turns the scores of one query against the tile into weights and rescales what was summed before.
inline void weigh_scores(const AttentionScratch& scratch, int64_t query, float* scores) {
  const float old_highest = scratch.highest[query];
  const float in_tile = largest_of(scores, kKeyTile);
  const float highest = in_tile > old_highest ? in_tile : old_highest;
  F total = broadcast(0);
  for (int64_t j = 0; j < kKeyTile; j += kLanes) {
    const F weight = exponential(load(scores + j) - broadcast(highest));
    store(scores + j, weight);
    total = total + weight;
  }
  scratch.highest[query] = highest;
  if (highest == old_highest) {
    scratch.total[query] += sum(total);
    return;
  }
  float shrink[kLanes];
  store(shrink, exponential(broadcast(old_highest - highest)));
  scratch.total[query] = scratch.total[query] * shrink[0] + sum(total);
  float* sums = scratch.sums + query * scratch.width;
  const F factor = broadcast(shrink[0]);
  for (int64_t d = 0; d < scratch.width; d += kLanes) store(sums + d, load(sums + d) * factor);
}

inline int64_t first_key(const AttentionTask& task, int64_t query) {
  const int64_t visible = task.visible[query];
  return visible > task.window ? visible - task.window : 0;
}

/// `count` queries from `first` on, at most kQueryTile, against the tile of keys that begins at
/// `begin`.
inline void attend_tile(const AttentionTask& task, const AttentionScratch& scratch, int64_t first,
                        int64_t count, int64_t begin) {
  int64_t seen_most = 0;
  for (int64_t i = first; i < first + count; ++i) {
    const int64_t seen = task.visible[i] - begin;
    seen_most = seen > seen_most ? seen : seen_most;
  }
  if (seen_most == 0) return;
  const int64_t keys = seen_most < kKeyTile ? seen_most : kKeyTile;
  float_panel({.inputs = task.queries + first * task.head_dim,
               .input_stride = task.head_dim,
               .tokens = count,
               .panel = scratch.key_panels,
               .panel_stride = task.head_dim * kGroupRows,
               .panels = (keys + kGroupRows - 1) / kGroupRows,
               .depth = task.head_dim,
               .out = scratch.scores,
               .out_stride = kKeyTile,
               .accumulate = false});
  for (int64_t i = 0; i < count; ++i) {
    const int64_t seen = task.visible[first + i] - begin;
    const int64_t hidden = first_key(task, first + i) - begin;
    float* scores = scratch.scores + i * kKeyTile;
    if (task.cap > 0) soft_cap(scores, task.cap, kKeyTile);
    hide_scores(hidden < kKeyTile ? hidden : kKeyTile, seen < 0 ? 0 : seen, scores);
    weigh_scores(scratch, first + i, scores);
  }
  float_panel({.inputs = scratch.scores,
               .input_stride = kKeyTile,
               .tokens = count,
               .panel = scratch.value_panels,
               .panel_stride = kKeyTile * kHeadStep,
               .panels = scratch.width / kHeadStep,
               .depth = keys,
               .out = scratch.sums + first * scratch.width,
               .out_stride = scratch.width,
               .accumulate = true});
}

inline void start_queries(const AttentionTask& task, const AttentionScratch& scratch) {
  // Finite, so that a query that sees nothing of a tile gives 0 * 0 and not infinity minus
  // infinity.
  for (int64_t i = 0; i < task.query_count; ++i) scratch.highest[i] = -3.0e38f;
  for (int64_t i = 0; i < task.query_count; ++i) scratch.total[i] = 0;
  for (int64_t i = 0; i < task.query_count * scratch.width; ++i) scratch.sums[i] = 0;
}

inline void finish_query(const AttentionTask& task, const AttentionScratch& scratch,
                         int64_t query) {
  const F inverse = broadcast(1.0f / scratch.total[query]);
  const float* sums = scratch.sums + query * scratch.width;
  for_pairs(sums, sums, task.head_dim, task.out + query * task.head_dim,
            [inverse](F value, F) { return value * inverse; });
}

void attend(const AttentionTask& task) {
  const AttentionScratch scratch = attention_scratch(task);
  start_queries(task, scratch);
  int64_t key_count = 0, first_seen = INT64_MAX;
  for (int64_t i = 0; i < task.query_count; ++i) {
    key_count = task.visible[i] > key_count ? task.visible[i] : key_count;
    first_seen = first_key(task, i) < first_seen ? first_key(task, i) : first_seen;
  }
  for (int64_t begin = first_seen / kKeyTile * kKeyTile; begin < key_count; begin += kKeyTile) {
    const int64_t keys = key_count - begin < kKeyTile ? key_count - begin : kKeyTile;
    fill_key_panels(task.keys + begin * task.head_dim, keys, task.head_dim, scratch.key_panels);
    fill_value_panels(task.values + begin * task.head_dim, keys, task.head_dim,
                      scratch.value_panels);
    for (int64_t first = 0; first < task.query_count; first += kQueryTile) {
      const int64_t rest = task.query_count - first;
      attend_tile(task, scratch, first, rest < kQueryTile ? rest : kQueryTile, begin);
    }
  }
  for (int64_t i = 0; i < task.query_count; ++i) finish_query(task, scratch, i);
}
