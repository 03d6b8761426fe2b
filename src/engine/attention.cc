#include "engine/attention.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "base/checked_math.h"
#include "base/error.h"
#include "base/half.h"
#include "engine/parallel.h"

namespace fewbits {
namespace {

/// Queries of one task: enough that converting a tile of keys to floats costs little beside using
/// it, few enough that queries and results stay in the first-level cache (64 of 64 floats are 16
/// KiB each). A unit for matrices is so much faster than the conversion that it takes more.
int64_t queries_per_tile() {
  return kernels().tiles == nullptr ? 64 : 256;
}

constexpr int64_t kTokensPerTask = 4;

int64_t tokens_of_each(int64_t tokens, std::span<const LayerCache> caches) {
  return caches.size() == 1 ? tokens : 1;
}

int64_t kv_heads_of(int64_t heads, int64_t group) {
  return heads / group;
}

/// A row of halves, `stride` apart, through `rotation`.
void rotate_halves(const Rotation& rotation, uint16_t* first, int64_t stride, float* row) {
  for (int64_t d = 0; d < rotation.dims(); ++d) row[d] = half_to_float(first[d * stride]);
  rotation.apply(row);
  for (int64_t d = 0; d < rotation.dims(); ++d) first[d * stride] = half_from_float(row[d]);
}

void read_key(const LayerCache& cache, int64_t head, int64_t position, float* row) {
  const uint16_t* key = cache.key(head, position);
  for (int64_t d = 0; d < cache.key_dim; ++d) row[d] = half_to_float(key[d * kKeysPerGroup]);
}

/// Of the keys [begin, end).
void find_mean(const LayerCache& cache, int64_t head, int64_t begin, int64_t end, float* row) {
  std::vector<double> sums(static_cast<size_t>(cache.key_dim));
  for (int64_t position = begin; position < end; ++position) {
    read_key(cache, head, position, row);
    for (size_t d = 0; d < sums.size(); ++d) sums[d] += double{row[d]};
  }
  float* mean = cache.means + head * cache.key_dim;
  for (size_t d = 0; d < sums.size(); ++d) {
    mean[d] = static_cast<float>(sums[d] / static_cast<double>(end - begin));
  }
}

void encode_chunk(const LayerCache& cache, int64_t head, int64_t chunk, float* rows) {
  const int64_t first = cache.oldest + chunk * kKvChunk;
  const float* mean = cache.means + head * cache.key_dim;
  for (int64_t t = 0; t < kKvChunk; ++t) {
    float* row = rows + t * cache.key_dim;
    read_key(cache, head, first + t, row);
    for (int64_t d = 0; d < cache.key_dim; ++d) row[d] -= mean[d];
  }
  cache.coding->key.encode(rows, cache.key_chunk(head, chunk));
  kernels().halves_to_floats(cache.value(head, first), kKvChunk * cache.value_dim, rows);
  cache.coding->value.encode(rows, cache.value_chunk(head, chunk));
}

}  // namespace

float score_scale(const ModelConfig& config) {
  return static_cast<float>(config.attention_scale != 0
                                ? config.attention_scale
                                : 1 / std::sqrt(static_cast<double>(config.head_dim)));
}

Attention::Attention(const ModelConfig& config, int threads)
    : heads_(config.heads),
      key_dim_(config.head_dim),
      value_dim_(config.head_dim),
      group_(config.heads / config.kv_heads),
      tokens_per_tile_(std::max<int64_t>(1, queries_per_tile() / group_)),
      scale_(score_scale(config)),
      cap_(static_cast<float>(config.attention_cap)),
      causal_(config.design.causal),
      query_stride_(0),
      buffers_(static_cast<size_t>(threads)) {
  make_room({});
}

/// For queries as long as the caches' keys are when they are decoded.
void Attention::make_room(std::span<const LayerCache> caches) {
  int64_t depth = key_dim_;
  for (const LayerCache& cache : caches) {
    if (cache.coding != nullptr) depth = std::max(depth, cache.coding->key.depth());
  }
  if (depth <= query_stride_) return;
  query_stride_ = depth;
  const int64_t queries = tokens_per_tile_ * group_;
  for (Buffers& buffers : buffers_) {
    buffers.queries.resize(static_cast<size_t>(queries * depth));
    buffers.out.resize(static_cast<size_t>(queries * value_dim_));
    buffers.scratch.resize(
        static_cast<size_t>(attention_scratch_floats(queries, depth, value_dim_)));
    buffers.bias.resize(static_cast<size_t>(queries));
    buffers.visible.resize(static_cast<size_t>(queries));
    buffers.rows.resize(static_cast<size_t>(kKvChunk * std::max(key_dim_, value_dim_)));
  }
}

void Attention::run(const Pass& pass, std::span<const LayerCache> caches, ThreadPool& pool) {
  check(caches.size() == 1 || std::ssize(caches) == pass.tokens);
  const int64_t tokens = tokens_of_each(pass.tokens, caches);
  for (const LayerCache& cache : caches) {
    check(cache.length + tokens <= cache.capacity);
    check(cache.key_dim == key_dim_ && cache.value_dim == value_dim_);
    check(cache.length + tokens <= cache.recent.first + cache.recent.capacity);
  }
  make_room(caches);
  rotate(pass, caches, pool);
  encode(pass, caches, pool);
  plan(pass, caches);
  const auto attend_one = [&](int64_t index, int thread) {
    const Tile& tile = tiles_[static_cast<size_t>(index)];
    attend(pass, tile, caches[static_cast<size_t>(tile.cache)],
           buffers_[static_cast<size_t>(thread)]);
  };
  pool.run(std::ssize(tiles_), std::ref(attend_one));
  const auto join = [&](int64_t index, int thread) {
    const Tile& tile = joins_[static_cast<size_t>(index)];
    float* rows = buffers_[static_cast<size_t>(thread)].out.data();
    join_parts(tile, rows);
    put(pass, tile, caches[static_cast<size_t>(tile.cache)], rows);
  };
  if (!joins_.empty()) pool.run(std::ssize(joins_), std::ref(join));
}

/// New keys and values of rotated formats, in their places.
void Attention::rotate(const Pass& pass, std::span<const LayerCache> caches, ThreadPool& pool) {
  const bool none = std::ranges::none_of(caches, [](const LayerCache& cache) {
    return cache.coding != nullptr && (cache.coding->key_rotation || cache.coding->value_rotation);
  });
  if (none) return;
  const int64_t each = tokens_of_each(pass.tokens, caches);
  parallel_for(pool, pass.tokens, kTokensPerTask, [&](int64_t row) {
    const LayerCache& cache = caches[static_cast<size_t>(row / each)];
    if (cache.coding == nullptr) return;
    std::vector<float> values(static_cast<size_t>(std::max(key_dim_, value_dim_)));
    const int64_t position = cache.length + row % each;
    const KvCoding& coding = *cache.coding;
    for (int64_t head = 0; head < kv_heads_of(heads_, group_); ++head) {
      if (coding.key_rotation) {
        rotate_halves(*coding.key_rotation, cache.key(head, position), kKeysPerGroup,
                      values.data());
      }
      if (coding.value_rotation) {
        rotate_halves(*coding.value_rotation, cache.value(head, position), 1, values.data());
      }
    }
  });
}

/// Chunks that this pass makes old enough. The mean that keys are coded less of is that of the
/// first ones.
void Attention::encode(const Pass& pass, std::span<const LayerCache> caches, ThreadPool& pool) {
  const int64_t tokens = tokens_of_each(pass.tokens, caches);
  const int64_t kv_heads = kv_heads_of(heads_, group_);
  for (const LayerCache& cache : caches) {
    if (cache.coding == nullptr) continue;
    const int64_t end = cache.coding->coded_end(cache.length + tokens);
    if (end <= cache.coded_end) continue;
    const auto rows = [&](int thread) { return buffers_[static_cast<size_t>(thread)].rows.data(); };
    if (cache.coded_end == cache.oldest && cache.coding->options.centred) {
      const auto center = [&](int64_t head, int thread) {
        find_mean(cache, head, cache.oldest, end, rows(thread));
      };
      pool.run(kv_heads, std::ref(center));
    }
    const int64_t first = (cache.coded_end - cache.oldest) / kKvChunk;
    const int64_t chunks = (end - cache.coded_end) / kKvChunk;
    const auto encode_one = [&](int64_t index, int thread) {
      encode_chunk(cache, index / chunks, first + index % chunks, rows(thread));
    };
    pool.run(kv_heads * chunks, std::ref(encode_one));
  }
}

void Attention::plan(const Pass& pass, std::span<const LayerCache> caches) {
  tiles_.clear();
  joins_.clear();
  const int64_t kv_heads = kv_heads_of(heads_, group_);
  const int64_t tokens = tokens_of_each(pass.tokens, caches);
  // Where a window reaches to both sides, each token's begins elsewhere from where its keys end.
  const int64_t tile_tokens = !causal_ && pass.window > 0 ? 1 : tokens_per_tile_;
  const int64_t tiles = divide_up(tokens, tile_tokens);
  int64_t slots = 0;
  for (int64_t cache = 0; cache < std::ssize(caches); ++cache) {
    const int64_t parts =
        divide_up(caches[static_cast<size_t>(cache)].length + tokens, kKeysPerPart);
    for (int64_t index = 0; index < tiles * kv_heads; ++index) {
      // Last tokens first: they see the most keys, and long tasks at the end would leave threads
      // idle.
      const int64_t first = (tiles - 1 - index / kv_heads) * tile_tokens;
      Tile tile{.cache = cache,
                .kv_head = index % kv_heads,
                .row = cache * tokens + first,
                .token = first,
                .tokens = std::min(tile_tokens, tokens - first),
                .part = -1,
                .slot = slots};
      if (tiles > 1 || parts == 1) {
        tiles_.push_back(tile);
        continue;
      }
      tile.parts = parts;
      joins_.push_back(tile);
      for (tile.part = 0; tile.part < parts; ++tile.part) {
        tiles_.push_back(tile);
        tile.slot += tile.tokens * group_;
      }
      slots = tile.slot;
    }
  }
  parts_.resize(static_cast<size_t>(slots));
  part_sums_.resize(static_cast<size_t>(slots * value_dim_));
}

/// The tile's queries, scaled, and how many keys each sees.
void Attention::gather_queries(const Pass& pass, const Tile& tile, const LayerCache& cache,
                               Buffers& buffers) const {
  const float* first = pass.queries + (tile.row * heads_ + tile.kv_head * group_) * key_dim_;
  for (int64_t i = 0; i < tile.tokens * group_; ++i) {
    const int64_t token = i / group_;
    const float* source = first + (token * heads_ + i % group_) * key_dim_;
    float* query = buffers.queries.data() + i * query_stride_;
    std::transform(source, source + key_dim_, query, [this](float x) { return x * scale_; });
    buffers.visible[static_cast<size_t>(i)] =
        cache.length + tokens_before_end(pass, tile.token + token);
    if (cache.coding == nullptr) continue;
    if (cache.coding->key_rotation) cache.coding->key_rotation->apply(query);
    cache.coding->key.extend_query(query);
    const float* mean = cache.means + tile.kv_head * key_dim_;
    buffers.bias[static_cast<size_t>(i)] = kernels().dot(query, mean, key_dim_);
  }
}

/// Of the pass, how many tokens there are up to the last that a token sees.
int64_t Attention::tokens_before_end(const Pass& pass, int64_t token) const {
  if (causal_) return token + 1;
  return pass.window > 0 ? std::min(pass.tokens, token + pass.window / 2 + 1) : pass.tokens;
}

/// How many tokens before its last one a token sees, that included.
int64_t Attention::window_of(const Pass& pass, const Tile& tile) const {
  if (pass.window == 0) return INT64_MAX;
  if (causal_) return pass.window;
  const int64_t half = pass.window / 2;
  return tokens_before_end(pass, tile.token) - std::max<int64_t>(0, tile.token - half);
}

void Attention::attend(const Pass& pass, const Tile& tile, const LayerCache& cache,
                       Buffers& buffers) {
  gather_queries(pass, tile, cache, buffers);
  AttentionTask task{.queries = buffers.queries.data(),
                     .query_stride = query_stride_,
                     .recent = {.keys = nullptr, .values = nullptr},
                     .visible = buffers.visible.data(),
                     .query_count = tile.tokens * group_,
                     .head_dim = key_dim_,
                     .value_dim = value_dim_,
                     .out = buffers.out.data(),
                     .scratch = buffers.scratch.data(),
                     .window = window_of(pass, tile),
                     .cap = cap_};
  if (tile.part >= 0) {
    task.begin = tile.part * kKeysPerPart;
    task.end = task.begin + kKeysPerPart;
    task.partial = parts_.data() + tile.slot;
    task.out = part_sums_.data() + tile.slot * value_dim_;
  }
  int64_t begin = 0;  // of what is left to the recent halves
  HalfKeys oldest{};
  CodedKeys coded{};
  if (cache.coding != nullptr) {
    begin = cache.oldest;
    if (cache.oldest > 0) {
      oldest = {cache.key(tile.kv_head, 0), cache.value(tile.kv_head, 0), 0, cache.oldest};
      task.oldest = &oldest;
    }
    const int64_t end =
        std::max(cache.recent.first, cache.coding->coded_end(cache.length + tile.token));
    coded = {.key_layout = cache.coding->key.layout(),
             .value_layout = cache.coding->value.layout(),
             .keys = cache.key_chunk(tile.kv_head, 0),
             .values = cache.value_chunk(tile.kv_head, 0),
             .first = begin,
             .count = end - begin,
             .bias = cache.coding->options.centred ? buffers.bias.data() : nullptr};
    if (coded.count > 0) task.coded = &coded;
    begin = end;
  }
  task.recent = {cache.key(tile.kv_head, begin), cache.value(tile.kv_head, begin), begin};
  kernels().attend(task);
  if (tile.part < 0) put(pass, tile, cache, buffers.out.data());
}

/// Softmax over all parts from their highest scores and totals, part after part.
void Attention::join_parts(const Tile& tile, float* rows) const {
  const int64_t queries = tile.tokens * group_;
  const AttentionPart* part = parts_.data() + tile.slot;
  const float* sums = part_sums_.data() + tile.slot * value_dim_;
  for (int64_t query = 0; query < queries; ++query) {
    float highest = part[query].highest, total = 0;
    for (int64_t p = 1; p < tile.parts; ++p) {
      highest = std::max(highest, part[p * queries + query].highest);
    }
    float* row = rows + query * value_dim_;
    std::fill_n(row, value_dim_, 0.0f);
    for (int64_t p = 0; p < tile.parts; ++p) {
      const int64_t index = p * queries + query;
      const float weight = std::exp(part[index].highest - highest);
      total += weight * part[index].total;
      kernels().add_scaled(row, sums + index * value_dim_, weight, value_dim_);
    }
    for (int64_t d = 0; d < value_dim_; ++d) row[d] /= total;
  }
}

/// Rows of the tile's queries to their places among all heads.
void Attention::put(const Pass& pass, const Tile& tile, const LayerCache& cache,
                    float* rows) const {
  if (cache.coding != nullptr && cache.coding->value_rotation) {
    for (int64_t i = 0; i < tile.tokens * group_; ++i) {
      cache.coding->value_rotation->undo(rows + i * value_dim_);
    }
  }
  const int64_t row = group_ * value_dim_, stride = heads_ * value_dim_;
  float* out = pass.out + tile.row * stride + tile.kv_head * row;
  for (int64_t t = 0; t < tile.tokens; ++t) std::copy_n(rows + t * row, row, out + t * stride);
}

}  // namespace fewbits
