#include "engine/layer.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "engine/experts.h"
#include "engine/parallel.h"
#include "kernels/kernel_table.h"

namespace fewbits {
namespace {

// Rows and columns of one task of the steps between the products: some 10 microseconds of work.
constexpr int64_t kTokensPerTask = 4;
constexpr int64_t kColumnsPerTask = 4096;

/// One pass of one layer.
class LayerPass {
 public:
  LayerPass(const LayerWeights& weights, std::span<float> hidden,
            std::span<const LayerCache> caches, LayerContext& context)
      : weights_(weights),
        config_(context.config),
        buffers_(context.buffers),
        context_(context),
        caches_(caches),
        hidden_(hidden.data()),
        tokens_(static_cast<int64_t>(hidden.size()) / config_.hidden),
        query_width_(config_.heads * config_.head_dim),
        kv_width_(config_.kv_heads * config_.head_dim),
        side_by_side_(!weights.attention_norm.gain.empty() &&
                      (config_.design.parallel || weights.mlp_norm.gain.empty())) {
    check(tokens_ * config_.hidden == static_cast<int64_t>(hidden.size()));
    check(hidden.size() <= buffers_.normed.size());
    check(caches.size() == 1 || std::ssize(caches) == tokens_);
    for (const LayerCache& cache : caches) {
      check(cache.length + (caches.size() == 1 ? tokens_ : 1) <= cache.capacity);
    }
  }

  /// As does mlp(): false where the observer wants no more.
  bool attention() {
    const float* input = norm_before(weights_.attention_norm);
    if (!feed(Role::kQuery, input, config_.hidden)) return false;
    if (config_.latent > 0) {
      if (!project_latent()) return false;
    } else {
      multiply_into({{&weights_.query, buffers_.query.data(), query_width_},
                     {&weights_.key, buffers_.key.data(), kv_width_},
                     {&weights_.value, buffers_.value.data(), kv_width_}});
    }
    rotate_and_store();
    buffers_.attention.run({.queries = buffers_.query.data(),
                            .tokens = tokens_,
                            .window = weights_.window,
                            .out = buffers_.mixed.data()},
                           caches_, context_.pool);
    close_value_gaps();
    const int64_t mixed = config_.heads * config_.value_size();
    if (!feed(Role::kAttentionOutput, buffers_.mixed.data(), mixed)) return false;
    multiply_into({{&weights_.attention_output, buffers_.branch.data(), config_.hidden}});
    // Side by side, the feed-forward part reads what attention read, or the same state by its own
    // norm: before anything is added to it.
    if (side_by_side_ && !weights_.mlp_norm.gain.empty()) norm_before(weights_.mlp_norm);
    add_branch(weights_.attention_output_bias, weights_.attention_post_norm);
    return true;
  }

  bool mlp() {
    const float* input = side_by_side_ ? buffers_.normed.data() : norm_before(weights_.mlp_norm);
    if (!weights_.experts.down.empty()) {
      if (!observe(Role::kGate, input, config_.hidden)) return false;
      forward_experts(weights_, input, tokens_, buffers_.branch.data(), context_);
    } else {
      if (!feed(Role::kGate, input, config_.hidden)) return false;
      multiply_up();
      activate_columns();
      if (!feed(Role::kDown, activated(), config_.ffn)) return false;
      multiply_into({{&weights_.down, buffers_.branch.data(), config_.hidden}});
    }
    add_branch(weights_.down_bias, weights_.mlp_post_norm);
    return true;
  }

 private:
  /// The state as the next part reads it: normed where there is a norm.
  const float* norm_before(const NormWeights& norm) {
    if (norm.gain.empty()) return hidden_;
    parallel_for(context_.pool, tokens_, kTokensPerTask, [&](int64_t t) {
      const int64_t row = t * config_.hidden;
      apply_norm(norm, config_, hidden_ + row, buffers_.normed.data() + row);
    });
    return buffers_.normed.data();
  }

  bool observe(Role site, const float* values, int64_t columns) {
    const std::span input(values, static_cast<size_t>(tokens_ * columns));
    return context_.observer == nullptr || (*context_.observer)(site, input, tokens_);
  }

  bool feed(Role site, const float* values, int64_t columns) {
    if (!observe(site, values, columns)) return false;
    assign_rounded(weights_.rounding.of(site), values, tokens_, columns, buffers_.rounded,
                   buffers_.input, context_.pool);
    return true;
  }

  void multiply_into(std::initializer_list<MatrixProduct> products) {
    multiply(std::span(products.begin(), products.size()), buffers_.input, context_.pool);
  }

  /// Queries, and keys and values by way of the latent rows. Values are padded with zeros to the
  /// size of keys.
  bool project_latent() {
    const int64_t turned = config_.turned_dims(), latent = config_.latent;
    multiply_into({{&weights_.query, buffers_.query.data(), query_width_},
                   {&weights_.latent, buffers_.latent.data(), latent + turned}});
    const auto epsilon = static_cast<float>(config_.norm_epsilon);
    for (int64_t t = 0; t < tokens_; ++t) {
      kernels().rms_norm(buffers_.latent.data() + t * (latent + turned),
                         weights_.latent_norm.data(), epsilon, latent,
                         buffers_.latent_normed.data() + t * latent);
    }
    if (!feed(Role::kKeyValue, buffers_.latent_normed.data(), latent)) return false;
    const int64_t width = config_.heads * (config_.still_dims() + config_.value_size());
    multiply_into({{&weights_.key_value, buffers_.key_value.data(), width}});
    parallel_for(context_.pool, tokens_, kTokensPerTask, [&](int64_t t) {
      spread_heads(buffers_.latent.data() + t * (latent + turned) + latent,
                   buffers_.key_value.data() + t * width, t * kv_width_);
    });
    return true;
  }

  /// One token's keys, the part that all heads share first, and values.
  void spread_heads(const float* shared, const float* own, int64_t offset) {
    const int64_t turned = config_.turned_dims(), still = config_.still_dims();
    for (int64_t head = 0; head < config_.heads; ++head, offset += config_.head_dim) {
      float* key = buffers_.key.data() + offset;
      float* value = buffers_.value.data() + offset;
      std::copy_n(shared, turned, key);
      std::copy_n(own, still, key + turned);
      std::copy_n(own + still, config_.value_size(), value);
      std::fill(value + config_.value_size(), value + config_.head_dim, 0.0f);
      own += still + config_.value_size();
    }
  }

  /// Attention mixes values as wide as keys: moves heads together where they are narrower.
  void close_value_gaps() {
    const int64_t size = config_.value_size();
    if (size == config_.head_dim) return;
    float* mixed = buffers_.mixed.data();
    for (int64_t head = 0; head < tokens_ * config_.heads; ++head) {
      std::copy_n(mixed + head * config_.head_dim, size, mixed + head * size);
    }
  }

  bool gated() const { return weights_.gate.rows() > 0; }
  float* activated() { return gated() ? buffers_.gate.data() : buffers_.up.data(); }

  void multiply_up() {
    const MatrixProduct up{&weights_.up, buffers_.up.data(), config_.ffn};
    if (gated()) {
      multiply_into({{&weights_.gate, buffers_.gate.data(), config_.ffn}, up});
    } else {
      multiply_into({up});
    }
  }

  void rotate_and_store() {
    parallel_for(context_.pool, tokens_, kTokensPerTask, [&](int64_t t) {
      float* key = buffers_.key.data() + t * kv_width_;
      float* value = buffers_.value.data() + t * kv_width_;
      add_bias(weights_.value_bias, value);
      finish_heads({weights_.query_bias, weights_.query_norm, config_.heads},
                   buffers_.query.data() + t * query_width_, t);
      finish_heads({weights_.key_bias, weights_.key_norm, config_.kv_heads}, key, t);
      round_for_cache(weights_.rounding.key_scale, key);
      round_for_cache(weights_.rounding.value_scale, value);
      const bool one = caches_.size() == 1;
      const LayerCache& cache = caches_[static_cast<size_t>(one ? 0 : t)];
      const int64_t position = cache.length + (one ? t : 0);
      for (int64_t head = 0; head < config_.kv_heads; ++head) {
        const int64_t offset = head * config_.head_dim;
        store_key(key + offset, cache.key(head, position));
        kernels().floats_to_halves(value + offset, config_.head_dim, cache.value(head, position));
      }
    });
  }

  /// By the scale of a cache in E4M3. What is stored is half as wide here only where the cache is
  /// coded too.
  void round_for_cache(float scale, float* row) const {
    if (scale == 0) return;
    static const ActivationFormat& float8 = activation_format_named("fp8");
    round_activations(float8, row, kv_width_, scale, row);
  }

  void store_key(const float* key, uint16_t* first) {
    constexpr int64_t kAtOnce = 64;
    std::array<uint16_t, kAtOnce> halves;
    for (int64_t d = 0; d < config_.head_dim; d += kAtOnce) {
      const int64_t count = std::min(kAtOnce, config_.head_dim - d);
      kernels().floats_to_halves(key + d, count, halves.data());
      for (int64_t i = 0; i < count; ++i) {
        first[(d + i) * kKeysPerGroup] = halves[static_cast<size_t>(i)];
      }
    }
  }

  static void add_bias(const std::vector<float>& bias, float* row) {
    if (!bias.empty()) kernels().add(row, bias.data(), std::ssize(bias));
  }

  struct Heads {
    const std::vector<float>&bias, &norm;
    int64_t count;
  };

  /// Bias, norm and rotation of one token's queries or keys.
  void finish_heads(const Heads& heads, float* row, int64_t token) {
    const int64_t turned = config_.turned_dims();
    const bool local = weights_.window > 0;
    add_bias(heads.bias, row);
    if (!heads.norm.empty()) norm_heads(heads, row);
    for (int64_t head = 0; head < heads.count; ++head) {
      kernels().rope_halves(row + head * config_.head_dim, context_.rope.cosines(token, local),
                            context_.rope.sines(token, local), turned);
    }
  }

  void norm_heads(const Heads& heads, float* row) {
    using Kind = LayerDesign::QueryKeyNorm;
    const auto epsilon = static_cast<float>(config_.norm_epsilon);
    const int64_t dim = config_.head_dim;
    if (config_.design.query_key_norm == Kind::kRow) {
      return kernels().rms_norm(row, heads.norm.data(), epsilon, heads.count * dim, row);
    }
    for (int64_t head = 0; head < heads.count; ++head) {
      float* x = row + head * dim;
      if (config_.design.query_key_norm == Kind::kEachHead) {
        kernels().layer_norm({x, heads.norm.data() + head * dim, nullptr, epsilon, dim, x});
      } else {
        kernels().rms_norm(x, heads.norm.data(), epsilon, dim, x);
      }
    }
  }

  void activate_columns() {
    const int64_t parts = divide_up(config_.ffn, kColumnsPerTask);
    parallel_for(context_.pool, tokens_ * parts, 1, [&](int64_t task) {
      const int64_t begin = task % parts * kColumnsPerTask;
      const int64_t offset = task / parts * config_.ffn + begin;
      const int64_t count = std::min(kColumnsPerTask, config_.ffn - begin);
      float* up = buffers_.up.data() + offset;
      if (!weights_.up_bias.empty()) kernels().add(up, weights_.up_bias.data() + begin, count);
      const auto activation = config_.design.activation;
      if (gated()) return activate(activation, buffers_.gate.data() + offset, up, count);
      activate(activation, up, nullptr, count);
    });
  }

  /// Adds what a part computed to the state. A norm after the part stands on the branch or on the
  /// sum.
  void add_branch(const std::vector<float>& bias, const NormWeights& norm) {
    const auto scale = static_cast<float>(config_.residual_scale);
    parallel_for(context_.pool, tokens_, kTokensPerTask, [&](int64_t t) {
      float* state = hidden_ + t * config_.hidden;
      float* branch = buffers_.branch.data() + t * config_.hidden;
      const bool on_sum = config_.design.norms_sum;
      add_bias(bias, branch);
      if (!norm.gain.empty() && !on_sum) apply_norm(norm, config_, branch, branch);
      if (scale == 1) {
        kernels().add(state, branch, config_.hidden);
      } else {
        kernels().add_scaled(state, branch, scale, config_.hidden);
      }
      if (!norm.gain.empty() && on_sum) apply_norm(norm, config_, state, state);
    });
  }

  const LayerWeights& weights_;
  const ModelConfig& config_;
  LayerBuffers& buffers_;
  LayerContext& context_;
  std::span<const LayerCache> caches_;
  float* hidden_;
  int64_t tokens_;
  int64_t query_width_, kv_width_;
  bool side_by_side_;
};

}  // namespace

LayerBuffers::LayerBuffers(const ModelConfig& config, int64_t most_tokens, int threads)
    : attention(config, threads) {
  const auto size = [&](int64_t columns) { return static_cast<size_t>(most_tokens * columns); };
  for (auto* buffer : {&normed, &branch}) buffer->resize(size(config.hidden));
  for (auto* buffer : {&query, &mixed}) buffer->resize(size(config.heads * config.head_dim));
  for (auto* buffer : {&key, &value}) buffer->resize(size(config.kv_heads * config.head_dim));
  // All tokens may go to one expert.
  const int64_t ffn = std::max({config.ffn, config.expert_ffn, config.shared_ffn});
  for (auto* buffer : {&gate, &up}) buffer->resize(size(ffn));
  if (config.latent > 0) {
    latent.resize(size(config.latent + config.turned_dims()));
    latent_normed.resize(size(config.latent));
    key_value.resize(size(config.heads * (config.still_dims() + config.value_size())));
  }
  if (config.experts == 0) return;
  scores.resize(size(config.experts));
  for (auto* buffer : {&expert_input, &expert_output}) buffer->resize(size(config.hidden));
}

void apply_norm(const NormWeights& norm, const ModelConfig& config, const float* x, float* out) {
  const auto epsilon = static_cast<float>(config.norm_epsilon);
  if (config.design.norm == LayerDesign::Norm::kRms) {
    return kernels().rms_norm(x, norm.gain.data(), epsilon, config.hidden, out);
  }
  kernels().layer_norm({.x = x,
                        .gain = norm.gain.data(),
                        .bias = norm.bias.empty() ? nullptr : norm.bias.data(),
                        .epsilon = epsilon,
                        .count = config.hidden,
                        .out = out});
}

void forward_layer(const LayerWeights& weights, std::span<float> hidden, const LayerCache& cache,
                   LayerContext& context) {
  forward_layer(weights, hidden, std::span(&cache, 1), context);
}

void forward_layer(const LayerWeights& weights, std::span<float> hidden,
                   std::span<const LayerCache> caches, LayerContext& context) {
  LayerPass pass(weights, hidden, caches, context);
  if (pass.attention()) pass.mlp();
}

}  // namespace fewbits
