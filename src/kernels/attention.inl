// Attention by online softmax. Both products (queries x keys, weights x values) are those of
// float_panel.inl over a tile of keys:
//
//   key panels    [tile / 16][head_dim][16 keys], as the cache has them
//   value panels  [head_dim / 16][tile][16 dimensions], the cache's rows seen in strips
//
// Where one tile holds all queries, as it does in decoding, they are multiplied with the
// cache's halves as they are: nothing is written back. For more queries, and where keys and values
// are coded, a tile is turned into floats once for all of them.
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

/// Values of a decoded key: at least head_dim.
inline int64_t key_depth(const AttentionTask& task) {
  if (task.coded == nullptr) return task.head_dim;
  const KvChunkLayout& layout = task.coded->key_layout;
  const int64_t depth = layout.part_count * layout.width;
  return depth > task.head_dim ? depth : task.head_dim;
}

inline AttentionScratch attention_scratch(const AttentionTask& task) {
  AttentionScratch scratch;
  scratch.width = (task.value_dim + kHeadStep - 1) / kHeadStep * kHeadStep;
  scratch.key_panels = task.scratch;
  scratch.value_panels = scratch.key_panels + kKeyTile * key_depth(task);
  scratch.scores = scratch.value_panels + kKeyTile * scratch.width;
  scratch.highest = scratch.scores + kQueryTile * kKeyTile;
  scratch.total = scratch.highest + task.query_count;
  scratch.sums = scratch.total + task.query_count;
  return scratch;
}

/// Dimensions beyond value_dim are zeros.
inline void fill_value_panels(const uint16_t* values, int64_t count, int64_t value_dim,
                              float* panels) {
  for (int64_t d = 0; d < value_dim; d += kHeadStep, panels += kKeyTile * kHeadStep) {
    const int64_t n = value_dim - d < kHeadStep ? value_dim - d : kHeadStep;
    for (int64_t j = 0; j < count; ++j) {
      float* row = panels + j * kHeadStep;
      for (int64_t i = n; i < kHeadStep; ++i) row[i] = 0;
      halves_to_floats(values + j * value_dim + d, n, row);
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
  int64_t begin;  // position of the first key
  int64_t count;  // at most kKeyTile
  const Value* keys;
  int64_t depth;  // values of a key
  const Value* values;
  int64_t value_row_stride, value_panel_stride;
  const float* bias;  // of each query's scores, or null
};

/// The scores of `count` queries from `first` on against a tile, as weights.
template <class Value>
void weigh_tile(const AttentionTask& task, const AttentionScratch& scratch, int64_t first,
                int64_t count, const KeyTile<Value>& tile) {
  for (int64_t i = 0; i < count; ++i) {
    const int64_t query = first + i;
    const int64_t visible = task.visible[query] - tile.begin;
    const int64_t seen = visible < tile.count ? visible : tile.count;
    const int64_t hidden = first_key(task, query) - tile.begin;
    float* scores = scratch.scores + i * kKeyTile;
    if (tile.bias != nullptr) {
      const F bias = broadcast(tile.bias[query]);
      for (int64_t j = 0; j < kKeyTile; j += kLanes) store(scores + j, load(scores + j) + bias);
    }
    if (task.cap > 0) soft_cap(scores, task.cap, kKeyTile);
    hide_scores(hidden < kKeyTile ? hidden : kKeyTile, seen < 0 ? 0 : seen, scores);
    weigh_scores(scratch, query, scores);
  }
}

/// Of the `keys` keys from position `begin` on: how many the last of some queries sees.
inline int64_t keys_seen(const AttentionTask& task, int64_t first, int64_t count, int64_t begin,
                         int64_t keys) {
  int64_t most = 0;
  for (int64_t i = first; i < first + count; ++i) {
    const int64_t seen = task.visible[i] - begin;
    most = seen > most ? seen : most;
  }
  return most < keys ? most : keys;
}

/// `count` queries from `first` on, at most kQueryTile, against a tile of keys.
template <class Value>
void attend_tile(const AttentionTask& task, const AttentionScratch& scratch, int64_t first,
                 int64_t count, const KeyTile<Value>& tile) {
  const int64_t keys = keys_seen(task, first, count, tile.begin, tile.count);
  if (keys == 0) return;
  multiply_panels<Value>({.inputs = task.queries + first * task.query_stride,
                          .input_stride = task.query_stride,
                          .tokens = count,
                          .panel = tile.keys,
                          .row_stride = kGroupRows,
                          .panel_stride = tile.depth * kGroupRows,
                          .panels = (keys + kGroupRows - 1) / kGroupRows,
                          .depth = tile.depth,
                          .out = scratch.scores,
                          .out_stride = kKeyTile,
                          .accumulate = false});
  weigh_tile(task, scratch, first, count, tile);
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

#include "kernels/attention_tiles.inl"

/// All queries against a tile of floats in the scratch.
inline void attend_floats(const AttentionTask& task, const AttentionScratch& scratch,
                          const KeyTile<float>& tile) {
  if (attends_by_tiles(task)) return attend_tiles(task, scratch, tile);
  for (int64_t first = 0; first < task.query_count; first += kQueryTile) {
    const int64_t rest = task.query_count - first;
    attend_tile(task, scratch, first, rest < kQueryTile ? rest : kQueryTile, tile);
  }
}

inline KeyTile<float> float_tile_of(const AttentionScratch& scratch, int64_t begin, int64_t count,
                                    int64_t depth) {
  return {.begin = begin,
          .count = count,
          .keys = scratch.key_panels,
          .depth = depth,
          .values = scratch.value_panels,
          .value_row_stride = kHeadStep,
          .value_panel_stride = kKeyTile * kHeadStep,
          .bias = nullptr};
}

/// Positions that some query sees.
struct Seen {
  int64_t first, end;
};

/// body(offset in the tokens, tokens of the tile) for each tile of tokens [first, first + count)
/// that the task is about.
template <class Body>
inline void for_each_tile(const AttentionTask& task, const Seen& seen, int64_t first, int64_t count,
                          const Body& body) {
  const int64_t last = seen.end - first;
  const int64_t end = count < last ? count : last;
  const int64_t skipped = seen.first > first ? (seen.first - first) / kKeyTile * kKeyTile : 0;
  for (int64_t offset = skipped; offset < end; offset += kKeyTile) {
    if (first + offset < task.begin || first + offset >= task.end) continue;
    body(offset, end - offset < kKeyTile ? end - offset : kKeyTile);
  }
}

#include "kernels/kv_product.inl"

inline void attend_halves(const AttentionTask& task, const AttentionScratch& scratch,
                          const Seen& seen, const HalfKeys& halves) {
  const bool few = task.query_count <= kQueryTile && task.value_dim % kHeadStep == 0;
  const bool direct = task.query_count <= kMostDirectQueries && task.head_dim % 2 == 0 &&
                      task.value_dim % kKvBlock == 0;
  for_each_tile(task, seen, halves.first, halves.count, [&](int64_t offset, int64_t count) {
    const uint16_t* keys = halves.keys + offset * task.head_dim;
    const uint16_t* values = halves.values + offset * task.value_dim;
    const int64_t begin = halves.first + offset;
    if (few) {  // straight from the cache
      const KeyTile<uint16_t> tile{.begin = begin,
                                   .count = count,
                                   .keys = keys,
                                   .depth = task.head_dim,
                                   .values = values,
                                   .value_row_stride = task.value_dim,
                                   .value_panel_stride = kHeadStep,
                                   .bias = nullptr};
      if (direct && count == kKeyTile) return attend_whole_tile(task, scratch, tile);
      return attend_tile(task, scratch, 0, task.query_count, tile);
    }
    const int64_t whole_groups = (count + kGroupRows - 1) / kGroupRows * kGroupRows;
    halves_to_floats(keys, whole_groups * task.head_dim, scratch.key_panels);
    fill_value_panels(values, count, task.value_dim, scratch.value_panels);
    attend_floats(task, scratch, float_tile_of(scratch, begin, count, task.head_dim));
  });
}

inline void attend_coded(const AttentionTask& task, const AttentionScratch& scratch,
                         const Seen& seen, const CodedKeys& coded) {
  const int64_t depth = coded.key_layout.part_count * coded.key_layout.width;
  const bool direct = task.query_count <= kMostDirectQueries && scratch.width % kKvBlock == 0;
  for_each_tile(task, seen, coded.first, coded.count, [&](int64_t offset, int64_t count) {
    KeyTile<float> tile = float_tile_of(scratch, coded.first + offset, count, depth);
    tile.bias = coded.bias;
    if (direct) return attend_codes(task, scratch, tile);
    for (int64_t key = 0; key < count; key += kKvChunk) {
      const int64_t chunk = (offset + key) / kKvChunk;
      decode_keys(coded.key_layout, coded.keys + chunk * coded.key_layout.chunk_bytes,
                  scratch.key_panels + key * depth, depth * kGroupRows);
      decode_values(coded.value_layout, coded.values + chunk * coded.value_layout.chunk_bytes,
                    scratch.width, {scratch.value_panels + key * kHeadStep, kKeyTile * kHeadStep});
    }
    attend_floats(task, scratch, tile);
  });
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
  for_pairs(sums, sums, task.value_dim, task.out + query * task.value_dim,
            [factor](F value, F) { return value * factor; });
  if (!whole) task.partial[query] = {scratch.highest[query], scratch.total[query]};
}

void attend(const AttentionTask& task) {
  const AttentionScratch scratch = attention_scratch(task);
  start_queries(task, scratch);
  if (attends_by_tiles(task)) {
    tile_rows(*task.tiles, task.queries, task.query_count, task.query_stride,
              tile_scratch(task, scratch).queries);
  }
  Seen seen{INT64_MAX, 0};
  for (int64_t i = 0; i < task.query_count; ++i) {
    seen.end = task.visible[i] > seen.end ? task.visible[i] : seen.end;
    seen.first = first_key(task, i) < seen.first ? first_key(task, i) : seen.first;
  }
  if (task.oldest != nullptr) attend_halves(task, scratch, seen, *task.oldest);
  if (task.coded != nullptr) attend_coded(task, scratch, seen, *task.coded);
  attend_halves(task, scratch, seen, task.recent);
  for (int64_t i = 0; i < task.query_count; ++i) finish_query(task, scratch, i);
}
