#include "engine/attention.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "base/checked_math.h"
#include "base/error.h"

namespace fewbits {
namespace {

// Queries of one task: enough that converting a tile of keys to floats costs little beside using
// it, few enough that queries and results stay in the first-level cache (64 of 64 floats are 16 KiB
// each).
constexpr int64_t kQueriesPerTile = 64;

}  // namespace

/// `tokens` queries of the heads of one key/value head.
struct Attention::Tile {
  const Pass& pass;
  int64_t kv_head;
  int64_t first_token;
  int64_t tokens;
};

Attention::Attention(const ModelConfig& config, int threads)
    : heads_(config.heads),
      head_dim_(config.head_dim),
      group_(config.heads / config.kv_heads),
      tokens_per_tile_(std::max<int64_t>(1, kQueriesPerTile / group_)),
      scale_(static_cast<float>(config.attention_scale != 0
                                    ? config.attention_scale
                                    : 1 / std::sqrt(static_cast<double>(config.head_dim)))),
      cap_(static_cast<float>(config.attention_cap)),
      causal_(config.design.causal),
      buffers_(static_cast<size_t>(threads)) {
  const int64_t queries = tokens_per_tile_ * group_;
  for (Buffers& buffers : buffers_) {
    buffers.queries.resize(static_cast<size_t>(queries * head_dim_));
    buffers.out.resize(buffers.queries.size());
    buffers.scratch.resize(static_cast<size_t>(attention_scratch_floats(queries, head_dim_)));
    buffers.visible.resize(static_cast<size_t>(queries));
  }
}

void Attention::run(const Pass& pass, const LayerCache& cache, ThreadPool& pool) {
  const int64_t tokens = pass.tokens;
  check(cache.length + tokens <= cache.capacity);
  const int64_t kv_heads = heads_ / group_;
  // Where a window reaches to both sides, each token's begins elsewhere from where its keys end.
  const int64_t tile_tokens = !causal_ && pass.window > 0 ? 1 : tokens_per_tile_;
  const int64_t tiles = divide_up(tokens, tile_tokens);
  const int64_t parts = divide_up(cache.length + tokens, kKeysPerPart);
  if (tiles == 1 && parts > 1) return run_in_parts(pass, parts, cache, pool);
  const auto task = [&](int64_t index, int thread) {
    // Last tokens first: they see the most keys, and long tasks at the end would leave threads
    // idle.
    const int64_t first = (tiles - 1 - index / kv_heads) * tile_tokens;
    const Tile tile{pass, index % kv_heads, first, std::min(tile_tokens, tokens - first)};
    run_tile(tile, cache, buffers_[static_cast<size_t>(thread)]);
  };
  pool.run(tiles * kv_heads, std::ref(task));
}

/// The tile's queries, scaled, and how many keys each sees. Returns their number.
int64_t Attention::gather_queries(const Tile& tile, const LayerCache& cache,
                                  Buffers& buffers) const {
  const int64_t row = group_ * head_dim_;  // the queries of one token
  const int64_t stride = heads_ * head_dim_;
  const int64_t start = tile.first_token * stride + tile.kv_head * row;
  for (int64_t t = 0; t < tile.tokens; ++t) {
    const float* source = tile.pass.queries + start + t * stride;
    std::transform(source, source + row, buffers.queries.data() + t * row,
                   [this](float x) { return x * scale_; });
    std::fill_n(buffers.visible.data() + t * group_, group_,
                cache.length + tokens_before_end(tile.pass, tile.first_token + t));
  }
  return tile.tokens * group_;
}

/// Of the pass, how many tokens there are up to the last that a token sees.
int64_t Attention::tokens_before_end(const Pass& pass, int64_t token) const {
  if (causal_) return token + 1;
  return pass.window > 0 ? std::min(pass.tokens, token + pass.window / 2 + 1) : pass.tokens;
}

/// How many tokens before its last one a token sees, that included.
int64_t Attention::window_of(const Tile& tile) const {
  if (tile.pass.window == 0) return INT64_MAX;
  if (causal_) return tile.pass.window;
  const int64_t token = tile.first_token, half = tile.pass.window / 2;
  return tokens_before_end(tile.pass, token) - std::max<int64_t>(0, token - half);
}

AttentionTask Attention::task_of(const Tile& tile, const LayerCache& cache,
                                 Buffers& buffers) const {
  return {.queries = buffers.queries.data(),
          .keys = cache.key(tile.kv_head, 0),
          .values = cache.value(tile.kv_head, 0),
          .visible = buffers.visible.data(),
          .query_count = gather_queries(tile, cache, buffers),
          .head_dim = head_dim_,
          .out = buffers.out.data(),
          .scratch = buffers.scratch.data(),
          .window = window_of(tile),
          .cap = cap_};
}

void Attention::run_tile(const Tile& tile, const LayerCache& cache, Buffers& buffers) const {
  kernels().attend(task_of(tile, cache, buffers));
  put(tile, buffers.out.data());
}

/// All tokens of a pass are one tile: each key/value head's keys in parts of kKeysPerPart.
void Attention::run_in_parts(const Pass& pass, int64_t parts, const LayerCache& cache,
                             ThreadPool& pool) {
  const int64_t kv_heads = heads_ / group_, queries = pass.tokens * group_;
  parts_.resize(static_cast<size_t>(kv_heads * parts * queries));
  part_sums_.resize(parts_.size() * static_cast<size_t>(head_dim_));
  const auto attend = [&](int64_t index, int thread) {
    AttentionTask task = task_of({pass, index / parts, 0, pass.tokens}, cache,
                                 buffers_[static_cast<size_t>(thread)]);
    task.begin = index % parts * kKeysPerPart;
    task.end = task.begin + kKeysPerPart;
    task.partial = parts_.data() + index * queries;
    task.out = part_sums_.data() + index * queries * head_dim_;
    kernels().attend(task);
  };
  pool.run(kv_heads * parts, std::ref(attend));
  const auto join = [&](int64_t head, int thread) {
    float* rows = buffers_[static_cast<size_t>(thread)].out.data();
    const Tile tile{pass, head, 0, pass.tokens};
    join_parts(tile, parts, rows);
    put(tile, rows);
  };
  pool.run(kv_heads, std::ref(join));
}

/// Softmax over all parts from their highest scores and totals, part after part.
void Attention::join_parts(const Tile& tile, int64_t parts, float* rows) const {
  const int64_t queries = tile.tokens * group_;
  const AttentionPart* part = parts_.data() + tile.kv_head * parts * queries;
  const float* sums = part_sums_.data() + tile.kv_head * parts * queries * head_dim_;
  for (int64_t query = 0; query < queries; ++query) {
    float highest = part[query].highest, total = 0;
    for (int64_t p = 1; p < parts; ++p) {
      highest = std::max(highest, part[p * queries + query].highest);
    }
    float* row = rows + query * head_dim_;
    std::fill_n(row, head_dim_, 0.0f);
    for (int64_t p = 0; p < parts; ++p) {
      const int64_t index = p * queries + query;
      const float weight = std::exp(part[index].highest - highest);
      total += weight * part[index].total;
      kernels().add_scaled(row, sums + index * head_dim_, weight, head_dim_);
    }
    for (int64_t d = 0; d < head_dim_; ++d) row[d] /= total;
  }
}

/// Rows of the tile's queries to their places among all heads.
void Attention::put(const Tile& tile, const float* rows) const {
  const int64_t row = group_ * head_dim_, stride = heads_ * head_dim_;
  float* out = tile.pass.out + tile.first_token * stride + tile.kv_head * row;
  for (int64_t t = 0; t < tile.tokens; ++t) std::copy_n(rows + t * row, row, out + t * stride);
}

}  // namespace fewbits
