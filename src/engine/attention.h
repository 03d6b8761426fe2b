#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "engine/kv_cache.h"
#include "kernels/kernel_table.h"
#include "model/config.h"

namespace fewbits {

/// What products of queries and keys are multiplied by.
float score_scale(const ModelConfig& config);

/// Attention of one layer over its cache. Query heads that share a key/value head are served
/// together, so that each key and value is read and converted once for all of them. A few tokens
/// behind a long context are cut over the keys as well (FlashDecoding), at places that depend on
/// the length alone, so that results depend on no thread count.
///
/// In a coded cache each run codes the chunks that have become old enough, before it attends: a
/// tile of queries sees coded what a token at its start would have seen coded, however many tokens
/// a pass has.
class Attention {
 public:
  Attention(const ModelConfig& config, int threads);

  /// `queries` and `out` are [tokens][heads][head_dim]; token t stands at cache.length + t, and the
  /// cache already holds the keys and values of all of them. `out` must not be `queries`.
  struct Pass {
    const float* queries;
    int64_t tokens;
    /// Tokens that each sees, its own included; 0: all. Where attention is not causal, half of so
    /// many to each side, and its own.
    int64_t window;
    float* out;
  };
  /// One cache: of all tokens. Several: of one token each, and as many.
  void run(const Pass& pass, std::span<const LayerCache> caches, ThreadPool& pool);

 private:
  struct Buffers {
    std::vector<float> queries, out, scratch, bias, rows;
    std::vector<int64_t> visible;
  };
  /// Queries of the heads of one key/value head.
  struct Tile {
    int64_t cache, kv_head;
    int64_t row;    ///< of the first token in the pass
    int64_t token;  ///< the same, behind the cache's length
    int64_t tokens;
    int64_t part, slot;  ///< part of the keys, or -1; its first place in parts_
    int64_t parts = 0;   ///< to join
  };
  void make_room(std::span<const LayerCache> caches);
  void plan(const Pass& pass, std::span<const LayerCache> caches);
  void plan_parts(int64_t cache, int64_t tokens, int64_t parts);
  void rotate(const Pass& pass, std::span<const LayerCache> caches, ThreadPool& pool);
  void encode(const Pass& pass, std::span<const LayerCache> caches, ThreadPool& pool);
  int64_t tokens_before_end(const Pass& pass, int64_t token) const;
  int64_t window_of(const Pass& pass, const Tile& tile) const;
  void gather_queries(const Pass& pass, const Tile& tile, const LayerCache& cache,
                      Buffers& buffers) const;
  void attend(const Pass& pass, const Tile& tile, const LayerCache& cache, Buffers& buffers);
  void join_parts(const Tile& tile, float* rows) const;
  void put(const Pass& pass, const Tile& tile, const LayerCache& cache, float* rows) const;

  int64_t heads_;
  int64_t key_dim_, value_dim_;
  int64_t group_;  ///< query heads of one key/value head
  int64_t tokens_per_tile_;
  float scale_;                       ///< of scores
  float cap_;                         ///< of scores; 0: none
  bool causal_;                       ///< else every token sees all of the pass
  int64_t query_stride_;              ///< at least key_dim
  std::vector<Tile> tiles_, joins_;   ///< of a run
  std::vector<Buffers> buffers_;      ///< one for each thread
  std::vector<float> part_sums_;      ///< [slot][query][value_dim]
  std::vector<AttentionPart> parts_;  ///< [slot][query]
};

}  // namespace fewbits
