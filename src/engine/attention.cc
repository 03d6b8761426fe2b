#include "engine/attention.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "base/checked_math.h"
#include "base/error.h"
#include "kernels/kernel_table.h"

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
  const int64_t tiles = divide_up(tokens, tokens_per_tile_);
  const auto task = [&](int64_t index, int thread) {
    // Last tokens first: they see the most keys, and long tasks at the end would leave threads
    // idle.
    const int64_t first = (tiles - 1 - index / kv_heads) * tokens_per_tile_;
    const Tile tile{pass, index % kv_heads, first, std::min(tokens_per_tile_, tokens - first)};
    run_tile(tile, cache, buffers_[static_cast<size_t>(thread)]);
  };
  pool.run(tiles * kv_heads, std::ref(task));
}

void Attention::run_tile(const Tile& tile, const LayerCache& cache, Buffers& buffers) const {
  const int64_t row = group_ * head_dim_;  // the queries of one token
  const int64_t stride = heads_ * head_dim_;
  const int64_t start = tile.first_token * stride + tile.kv_head * row;
  for (int64_t t = 0; t < tile.tokens; ++t) {
    const float* source = tile.pass.queries + start + t * stride;
    std::transform(source, source + row, buffers.queries.data() + t * row,
                   [this](float x) { return x * scale_; });
    const int64_t seen = causal_ ? tile.first_token + t + 1 : tile.pass.tokens;
    std::fill_n(buffers.visible.data() + t * group_, group_, cache.length + seen);
  }
  kernels().attend({.queries = buffers.queries.data(),
                    .keys = cache.key(tile.kv_head, 0),
                    .values = cache.value(tile.kv_head, 0),
                    .visible = buffers.visible.data(),
                    .query_count = tile.tokens * group_,
                    .head_dim = head_dim_,
                    .out = buffers.out.data(),
                    .scratch = buffers.scratch.data(),
                    .window = tile.pass.window > 0 ? tile.pass.window : INT64_MAX,
                    .cap = cap_});
  for (int64_t t = 0; t < tile.tokens; ++t) {
    std::copy_n(buffers.out.data() + t * row, row, tile.pass.out + start + t * stride);
  }
}

}  // namespace fewbits
