// Attention of many queries where there is a unit for matrices (AttentionTask::tiles). Keys and
// values, halves as a rule, are two parts of bfloats each, exactly; so are weights, up to 16 bits.
// Queries, whose errors softmax would magnify, are three.

struct TileScratch {
  TileParts queries;  // [query / 16][depth / 32][16][32]
  TileParts keys;     // [key / 16][depth / 2][16][2]
  TileParts values;   // [dim / 16][key / 2][16][2]
  TileParts weights;  // [query / 16][key / 32][16][32], of one tile
  float* scores;      // [kTileQueries][kKeyTile]
  float* product;     // [query / 16][2][16][16]
};

inline TileScratch tile_scratch(const AttentionTask& task, const AttentionScratch& scratch) {
  const int64_t depth = key_depth(task);
  float* next = scratch.sums + task.query_count * scratch.width;
  next += (64 - reinterpret_cast<uintptr_t>(next) % 64) % 64 / sizeof(float);
  const auto take = [&next](int64_t size, int parts) {
    uint16_t* first = reinterpret_cast<uint16_t*>(next);
    next += size * parts / 2;
    return TileParts{first, size, parts};
  };
  const int64_t rows = (task.query_count + kTileTokens - 1) / kTileTokens * kTileTokens;
  TileScratch tiles;
  tiles.queries = take(rows * depth, 3);
  tiles.keys = take(kKeyTile * depth, 2);
  tiles.values = take(kKeyTile * scratch.width, 2);
  tiles.weights = take(kTileQueries * kKeyTile, 2);
  tiles.scores = next;
  tiles.product = tiles.scores + kTileQueries * kKeyTile;
  return tiles;
}

inline bool attends_by_tiles(const AttentionTask& task) {
  return task.tiles != nullptr && task.query_count >= kTileTokens &&
         task.query_stride == key_depth(task) && task.query_stride % kTileColumns == 0 &&
         task.head_dim % kTileColumns == 0;
}

/// Rows [count][columns] as tiles.
inline void tile_rows(const TileKernels& kernels, const float* rows, int64_t count, int64_t columns,
                      TileParts out) {
  for (int64_t i = 0; i < count; i += kTileTokens, out.first += kTileTokens * columns) {
    const int64_t rest = count - i;
    kernels.tile_inputs(rows + i * columns, rest < kTileTokens ? rest : kTileTokens, columns, out);
  }
}

inline TileParts part_at(TileParts parts, int64_t at) {
  parts.first += at;
  return parts;
}

/// Keys and values of a tile of floats as panels. Values beyond the last key become zeros.
inline void make_panels(const AttentionTask& task, const AttentionScratch& scratch,
                        const TileScratch& tiles, const KeyTile<float>& tile) {
  const int64_t group = tile.depth * kGroupRows;
  for (int64_t key = 0; key < tile.count; key += kGroupRows) {
    const int64_t at = key / kGroupRows * group;
    task.tiles->tile_weights(tile.keys + at, tile.depth, part_at(tiles.keys, at));
  }
  const int64_t rows = (tile.count + kTileColumns - 1) / kTileColumns * kTileColumns;
  for (int64_t d = 0; d < scratch.width; d += kHeadStep) {
    const int64_t at = d * kKeyTile;
    float* strip = scratch.value_panels + at;
    for (int64_t i = tile.count * kHeadStep; i < rows * kHeadStep; ++i) strip[i] = 0;
    task.tiles->tile_weights(strip, rows, part_at(tiles.values, at));
  }
}

/// Tiles times two panels, the second `stride` bfloats behind the first: all parts of the inputs
/// times the first part of the panels, and two times the second.
struct PartsTask {
  const TileKernels& kernels;
  TileParts inputs;
  int64_t input_stride;  // bfloats
  int64_t token_tiles;
  TileParts panels;
  int64_t stride;
  int64_t steps;
};

inline void multiply_parts(const PartsTask& task, float* out) {
  const auto* panels = reinterpret_cast<const uint8_t*>(task.panels.first);
  TileTask product{.inputs = reinterpret_cast<const uint8_t*>(task.inputs.first),
                   .input_stride = task.input_stride * 2,
                   .token_tiles = task.token_tiles,
                   .panels = {panels, panels + task.stride * 2},
                   .steps = task.steps,
                   .out = out,
                   .accumulate = false};
  product.term_count = 0;
  const int64_t input = task.inputs.stride * 2, panel = task.panels.stride * 2;
  for (int i = 0; i < task.inputs.count; ++i) product.terms[product.term_count++] = {i * input, 0};
  for (int i = 0; i < 2; ++i) product.terms[product.term_count++] = {i * input, panel};
  task.kernels.multiply_bfloats(product);
}

/// The 16 sums of a query in a product.
inline const float* product_row(const TileScratch& tiles, int64_t query, int64_t panel) {
  const int64_t tile = query / kTileTokens * 2 + panel;
  return tiles.product + (tile * kTileTokens + query % kTileTokens) * kGroupRows;
}

/// Scores of `count` queries from `first` on, at most kTileQueries, with `keys` keys of a tile.
inline void score_panels(const AttentionTask& task, const TileScratch& tiles, int64_t first,
                         int64_t count, int64_t keys, int64_t depth) {
  const int64_t group = depth * kGroupRows, stride = task.query_stride;
  for (int64_t key = 0; key < keys; key += 2 * kGroupRows) {
    multiply_parts({.kernels = *task.tiles,
                    .inputs = part_at(tiles.queries, first * stride),
                    .input_stride = stride * kTileTokens,
                    .token_tiles = (count + kTileTokens - 1) / kTileTokens,
                    .panels = part_at(tiles.keys, key / kGroupRows * group),
                    .stride = key + kGroupRows < keys ? group : 0,
                    .steps = depth / kTileColumns},
                   tiles.product);
    for (int64_t i = 0; i < count; ++i) {
      float* scores = tiles.scores + i * kKeyTile + key;
      for (int64_t j = 0; j < 2 * kGroupRows; j += kLanes)
        store(scores + j, load(product_row(tiles, i, j / kGroupRows) + j % kGroupRows));
    }
  }
}

/// Adds to the queries' sums the tile's values times weights.
inline void add_values(const AttentionTask& task, const AttentionScratch& scratch,
                       const TileScratch& tiles, int64_t first, int64_t count, int64_t keys) {
  constexpr int64_t kStrip = kKeyTile * kHeadStep;
  for (int64_t d = 0; d < scratch.width; d += 2 * kHeadStep) {
    const bool both = d + kHeadStep < scratch.width;
    multiply_parts({.kernels = *task.tiles,
                    .inputs = tiles.weights,
                    .input_stride = kKeyTile * kTileTokens,
                    .token_tiles = (count + kTileTokens - 1) / kTileTokens,
                    .panels = part_at(tiles.values, d / kHeadStep * kStrip),
                    .stride = both ? kStrip : 0,
                    .steps = (keys + kTileColumns - 1) / kTileColumns},
                   tiles.product);
    for (int64_t i = 0; i < count; ++i) {
      float* sums = scratch.sums + (first + i) * scratch.width + d;
      for (int64_t j = 0; j < (both ? 2 : 1) * kHeadStep; j += kLanes)
        store(sums + j,
              load(sums + j) + load(product_row(tiles, i, j / kGroupRows) + j % kGroupRows));
    }
  }
}

/// `count` queries from `first` on, at most kTileQueries, against the panels of a tile.
inline void attend_panels(const AttentionTask& task, const AttentionScratch& scratch,
                          const TileScratch& tiles, int64_t first, int64_t count,
                          const KeyTile<float>& tile) {
  const int64_t keys = keys_seen(task, first, count, tile.begin, tile.count);
  if (keys == 0) return;
  score_panels(task, tiles, first, count, keys, tile.depth);
  AttentionScratch rows = scratch;
  rows.scores = tiles.scores;
  weigh_tile(task, rows, first, count, tile);
  tile_rows(*task.tiles, tiles.scores, count, kKeyTile, tiles.weights);
  add_values(task, scratch, tiles, first, count, keys);
}

/// All queries against a tile of floats in the scratch.
inline void attend_tiles(const AttentionTask& task, const AttentionScratch& scratch,
                         const KeyTile<float>& tile) {
  const TileScratch tiles = tile_scratch(task, scratch);
  make_panels(task, scratch, tiles, tile);
  for (int64_t first = 0; first < task.query_count; first += kTileQueries) {
    const int64_t rest = task.query_count - first;
    attend_panels(task, scratch, tiles, first, rest < kTileQueries ? rest : kTileQueries, tile);
  }
}
