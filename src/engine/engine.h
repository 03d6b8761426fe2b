#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "engine/kv_cache.h"
#include "engine/layer.h"
#include "kernels/matmul.h"
#include "model/model.h"

namespace fewbits {

struct EngineOptions {
  PackOptions pack = {};
  int64_t batch = 512;  ///< most tokens in one pass; longer inputs are cut
  /// What is not int8 is computed in floats, whatever `pack` says.
  ActivationOptions activations = {};
};

/// Loads what one layer computes with. With `options.repack` the source pages are given back behind
/// the reader.
LayerWeights load_layer(const Model& model, int64_t layer, PackOptions options, ThreadPool& pool);

/// Rows [begin, begin + count) of a weight, in our order, that make one matrix of a layer.
struct MatrixPart {
  PackedMatrix* matrix;
  int64_t begin, count;
};

/// The matrices of `weights` that a tensor holds: one, or the parts of a fused one; none for a
/// tensor that is no such matrix (experts, vectors).
std::vector<MatrixPart> parts_of(const Weight& weight, const ModelConfig& config,
                                 LayerWeights& weights);

/// Rotary positions as the model turns them, scaling and all.
RopeTable rope_table(const Model& model, int64_t most_tokens);

/// The forward pass of a decoder over packed weights. One sequence at a time; `model` and `pool`
/// must outlive the engine. Results do not depend on the number of threads.
class Engine {
 public:
  /// Throws Interrupted where a signal came while the weights were packed.
  Engine(const Model& model, ThreadPool& pool, EngineOptions options = {});
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  const Model& model() const;
  const ModelConfig& config() const;
  /// Makes room for passes of so many tokens, where there is less.
  void grow(int64_t batch);
  int64_t weight_bytes() const;  ///< read for each decoded token (one embedding row, not the table)

  /// Appends `tokens` to the cache and returns the final hidden states (after the output norm) of
  /// the last `rows` tokens, [rows][hidden], valid until the next call. REQUIRES: they fit the
  /// cache, 0 <= rows <= tokens. Throws Interrupted between layers where a signal came; the cache
  /// then holds the passes that were finished.
  std::span<const float> forward(std::span<const Token> tokens, KvCache& cache, int64_t rows);

  /// The next token of several sequences at once, one of each, in a cache of its own: weights are
  /// read once for all. Returns [tokens][hidden] as forward does. REQUIRES: as many different
  /// caches as tokens, at most the batch; each has room for one more.
  std::span<const float> forward_each(std::span<const Token> tokens,
                                      std::span<KvCache* const> caches);

  // The same step by step, for one sequence from its start: for whoever looks at states between
  // layers, or exchanges matrices to see what that changes. States are [tokens][hidden size],
  // tokens <= the batch; of the cache, only the layer's part is used.
  LayerWeights& layer(int64_t index);
  std::vector<float> embed(std::span<const Token> tokens);
  void run_layer(int64_t index, std::span<float> states, KvCache& cache);
  void norm(std::span<float> states) const;  ///< the output norm, in place

  /// Logits of final hidden states: out [rows][vocabulary].
  void logits(std::span<const float> hidden, int64_t rows, float* out);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace fewbits
