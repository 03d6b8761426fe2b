#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "engine/activation_rounding.h"
#include "engine/attention.h"
#include "engine/kv_cache.h"
#include "engine/rope.h"
#include "kernels/matmul.h"
#include "model/architecture.h"

// One layer, the unit that everything is made of: generation and evaluation run all of them,
// calibration one at a time while it watches what each linear map is fed.
//
//   n = attention_norm(x)
//   x += attention_post_norm(attention_output(attend(rope(query(n)), rope(key(n)), value(n))))
//   m = mlp_norm(x)
//   x += mlp_post_norm(down(act(gate(m)) * up(m)))        or down(act(up(m)))
//
// A norm or bias that the model lacks is not applied; LayerDesign says what else differs.
namespace fewbits {

/// Gains, and biases where the model has them. Empty: no norm.
struct NormWeights {
  std::vector<float> gain, bias = {};
};

/// Feed-forward parts of which each token goes to a few.
struct ExpertWeights {
  PackedMatrix router;
  std::vector<PackedMatrix> gate, up, down;
  PackedMatrix shared_gate, shared_up, shared_down;  ///< beside them, where the model has such
};

struct LayerWeights {
  NormWeights attention_norm, attention_post_norm, mlp_norm, mlp_post_norm;
  std::vector<float> query_norm, key_norm, latent_norm;
  PackedMatrix query, key, value, attention_output;
  PackedMatrix latent, key_value;  ///< of latent attention, in place of key and value
  PackedMatrix gate, up, down;     ///< no gate: a plain feed-forward part
  std::vector<float> query_bias, key_bias, value_bias, attention_output_bias, up_bias, down_bias;
  ExpertWeights experts;  ///< in place of gate, up and down
  int64_t window = 0;     ///< tokens that attention sees; 0: all
  LayerRounding rounding = {};
};

/// Sees the input of each linear map, [tokens][columns], before it is rounded and multiplied. Maps
/// with one input are reported once: kQuery for query, key and value (or latent), kKeyValue,
/// kAttentionOutput, kGate for gate and up, kDown. Experts report nothing but kGate, for all of
/// them together (ExpertObserver). False: nothing behind this site is of interest; the pass ends
/// there, and the hidden states are left as they were when the site was reached.
using SiteObserver = std::function<bool(Role site, std::span<const float> input, int64_t tokens)>;

/// Sees what each expert is fed: kExpertGate for its gate and up, kExpertDown; the shared one as
/// expert 0 under kSharedGate and kSharedDown. Experts that no token goes to are not reported.
using ExpertObserver =
    std::function<void(Role site, int64_t expert, std::span<const float> input, int64_t tokens)>;

/// What lies between the steps of a layer, allocated once and used by all layers in turn.
struct LayerBuffers {
  LayerBuffers(const ModelConfig& config, int64_t most_tokens, int threads);

  Activations input;
  Attention attention;
  std::vector<float> normed, query, key, value, mixed, gate, up, branch;
  std::vector<float> latent, latent_normed, key_value;     ///< of latent attention
  std::vector<float> scores, expert_input, expert_output;  ///< of experts
  std::vector<float> rounded;  ///< inputs that are not multiplied as they are
};

struct LayerContext {
  const ModelConfig& config;
  const RopeTable& rope;  ///< prepared for the positions of this pass
  LayerBuffers& buffers;
  ThreadPool& pool;
  const SiteObserver* observer = nullptr;
  const ExpertObserver* expert_observer = nullptr;
};

/// Replaces `hidden` [tokens][hidden size] by the layer's output and fills the positions of the
/// tokens in `cache`. REQUIRES: tokens <= the buffers' most_tokens, and they fit the cache.
void forward_layer(const LayerWeights& weights, std::span<float> hidden, const LayerCache& cache,
                   LayerContext& context);

/// The same for several sequences at once: one token of each, in its own cache.
void forward_layer(const LayerWeights& weights, std::span<float> hidden,
                   std::span<const LayerCache> caches, LayerContext& context);

/// Norms one row by the kind of the design. `out` may be `x`.
void apply_norm(const NormWeights& norm, const ModelConfig& config, const float* x, float* out);

}  // namespace fewbits
