#pragma once

#include <cstdint>
#include <vector>

#include "base/thread_pool.h"
#include "engine/kv_cache.h"
#include "kernels/kernel_table.h"
#include "model/config.h"

namespace fewbits {

/// Attention of one layer over its cache. Query heads that share a key/value head are served
/// together, so that each key and value is read and converted once for all of them. A few tokens
/// behind a long context are cut over the keys as well (FlashDecoding), at places that depend on
/// the length alone, so that results depend on no thread count.
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
  void run(const Pass& pass, const LayerCache& cache, ThreadPool& pool);

 private:
  struct Buffers {
    std::vector<float> queries, out, scratch;
    std::vector<int64_t> visible;
  };
  struct Tile;
  int64_t gather_queries(const Tile& tile, const LayerCache& cache, Buffers& buffers) const;
  int64_t tokens_before_end(const Pass& pass, int64_t token) const;
  int64_t window_of(const Tile& tile) const;
  AttentionTask task_of(const Tile& tile, const LayerCache& cache, Buffers& buffers) const;
  void run_tile(const Tile& tile, const LayerCache& cache, Buffers& buffers) const;
  void run_in_parts(const Pass& pass, int64_t parts, const LayerCache& cache, ThreadPool& pool);
  void join_parts(const Tile& tile, int64_t parts, float* row) const;
  void put(const Tile& tile, const float* rows) const;

  int64_t heads_;
  int64_t head_dim_;
  int64_t group_;  ///< query heads of one key/value head
  int64_t tokens_per_tile_;
  float scale_;                       ///< of scores
  float cap_;                         ///< of scores; 0: none
  bool causal_;                       ///< else every token sees all of the pass
  std::vector<Buffers> buffers_;      ///< one for each thread
  std::vector<float> part_sums_;      ///< [kv head][part][query][head_dim]
  std::vector<AttentionPart> parts_;  ///< [kv head][part][query]
};

}  // namespace fewbits
