#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "engine/attention.h"
#include "engine/kv_cache.h"
#include "engine/rope.h"
#include "kernels/matmul.h"
#include "model/architecture.h"

// One decoder layer, the unit that everything is made of: generation and evaluation run all of
// them, calibration one at a time while it watches what each linear map is fed.
//
//   x += attention_output(attend(rope(query(n)), rope(key(n)), value(n)))     n = rms_norm(x,
//   attention_norm) x += down(silu(gate(m)) * up(m))                                          m =
//   rms_norm(x, mlp_norm)
namespace fewbits {

struct LayerWeights {
  std::vector<float> attention_norm, mlp_norm;
  PackedMatrix query, key, value, attention_output;
  PackedMatrix gate, up, down;
};

/// Sees the input of each linear map, [tokens][columns], before it is multiplied. Maps with one
/// input are reported once: kQuery for query, key and value, kAttentionOutput, kGate for gate and
/// up, kDown. False: nothing behind this site is of interest; the pass ends there, and the hidden
/// states are left as they were when the site was reached.
using SiteObserver = std::function<bool(Role site, std::span<const float> input, int64_t tokens)>;

/// What lies between the steps of a layer, allocated once and used by all layers in turn.
struct LayerBuffers {
  LayerBuffers(const ModelConfig& config, int64_t most_tokens, int threads);

  Activations input;
  Attention attention;
  std::vector<float> normed, query, key, value, mixed, gate, up, branch;
};

struct LayerContext {
  const ModelConfig& config;
  const RopeTable& rope;  ///< prepared for the positions of this pass
  LayerBuffers& buffers;
  ThreadPool& pool;
  const SiteObserver* observer = nullptr;
};

/// Replaces `hidden` [tokens][hidden size] by the layer's output and fills the positions of the
/// tokens in `cache`. REQUIRES: tokens <= the buffers' most_tokens, and they fit the cache.
void forward_layer(const LayerWeights& weights, std::span<float> hidden, const LayerCache& cache,
                   LayerContext& context);

}  // namespace fewbits
