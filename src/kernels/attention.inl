// Attention by online softmax. Both products (queries x keys, weights x values) are those of
// float_panel.inl over a tile of keys:
//
//   key panels    [tile / 16][head_dim][16 keys], as the cache has them
//   value panels  [head_dim / 16][tile][16 dimensions], the cache's rows seen in strips
//
// Where one tile holds all queries, as it does in decoding, they are multiplied with the
// cache's halves as they are: nothing is written back. For more queries a tile is turned into
// floats once for all of them.
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

/// One tile of keys and values as the products read them.
template <class Value>
struct KeyTile {
  const Value* keys;
  int64_t key_panel_stride;
  const Value* values;
  int64_t value_row_stride, value_panel_stride;
};

/// `count` queries from `first` on, at most kQueryTile, against the tile of keys that begins at
/// `begin`.
template <class Value>
void attend_tile(const AttentionTask& task, const AttentionScratch& scratch, int64_t first,
                 int64_t count, int64_t begin, const KeyTile<Value>& tile) {
  int64_t seen_most = 0;
  for (int64_t i = first; i < first + count; ++i) {
    const int64_t seen = task.visible[i] - begin;
    seen_most = seen > seen_most ? seen : seen_most;
  }
  if (seen_most == 0) return;
  const int64_t keys = seen_most < kKeyTile ? seen_most : kKeyTile;
  multiply_panels<Value>({.inputs = task.queries + first * task.head_dim,
                          .input_stride = task.head_dim,
                          .tokens = count,
                          .panel = tile.keys,
                          .row_stride = kGroupRows,
                          .panel_stride = tile.key_panel_stride,
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
  multiply_panels<Value>({.inputs = scratch.scores,
                          .input_stride = kKeyTile,
                          .tokens = count,
                          .panel = tile.values,
                          .row_stride = tile.value_row_stride,
                          .panel_stride = tile.value_panel_stride,
                          .panels = scratch.width / kHeadStep,
                          .depth = keys,
                          .out = scratch.sums + first * scratch.width,
                          .out_stride = scratch.width,
                          .accumulate = true});
}

/// All queries against `keys` keys from `begin` on, straight from the cache.
inline void attend_halves(const AttentionTask& task, const AttentionScratch& scratch,
                          int64_t begin) {
  attend_tile<uint16_t>(task, scratch, 0, task.query_count, begin,
                        {.keys = task.keys + begin * task.head_dim,
                         .key_panel_stride = task.head_dim * kGroupRows,
                         .values = task.values + begin * task.head_dim,
                         .value_row_stride = task.head_dim,
                         .value_panel_stride = kHeadStep});
}

/// The same by way of floats.
inline void attend_floats(const AttentionTask& task, const AttentionScratch& scratch, int64_t begin,
                          int64_t keys) {
  const int64_t whole_groups = (keys + kGroupRows - 1) / kGroupRows * kGroupRows;
  halves_to_floats(task.keys + begin * task.head_dim, whole_groups * task.head_dim,
                   scratch.key_panels);
  fill_value_panels(task.values + begin * task.head_dim, keys, task.head_dim, scratch.value_panels);
  for (int64_t first = 0; first < task.query_count; first += kQueryTile) {
    const int64_t rest = task.query_count - first;
    attend_tile<float>(task, scratch, first, rest < kQueryTile ? rest : kQueryTile, begin,
                       {.keys = scratch.key_panels,
                        .key_panel_stride = task.head_dim * kGroupRows,
                        .values = scratch.value_panels,
                        .value_row_stride = kHeadStep,
                        .value_panel_stride = kKeyTile * kHeadStep});
  }
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
  const bool whole = task.partial == nullptr;
  const F factor = broadcast(whole ? 1.0f / scratch.total[query] : 1.0f);
  const float* sums = scratch.sums + query * scratch.width;
  for_pairs(sums, sums, task.head_dim, task.out + query * task.head_dim,
            [factor](F value, F) { return value * factor; });
  if (!whole) task.partial[query] = {scratch.highest[query], scratch.total[query]};
}

void attend(const AttentionTask& task) {
  const AttentionScratch scratch = attention_scratch(task);
  start_queries(task, scratch);
  int64_t end = 0, first_seen = INT64_MAX;
  for (int64_t i = 0; i < task.query_count; ++i) {
    end = task.visible[i] > end ? task.visible[i] : end;
    first_seen = first_key(task, i) < first_seen ? first_key(task, i) : first_seen;
  }
  end = end < task.end ? end : task.end;
  int64_t begin = first_seen / kKeyTile * kKeyTile;
  begin = begin > task.begin ? begin : task.begin;
  const bool few = task.query_count <= kQueryTile && task.head_dim % kHeadStep == 0;
  for (; begin < end; begin += kKeyTile) {
    if (few) {
      attend_halves(task, scratch, begin);
    } else {
      attend_floats(task, scratch, begin, end - begin < kKeyTile ? end - begin : kKeyTile);
    }
  }
  for (int64_t i = 0; i < task.query_count; ++i) finish_query(task, scratch, i);
}
