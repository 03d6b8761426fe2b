#include "engine/layer.h"

#include <algorithm>

#include "base/error.h"
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
  LayerPass(const LayerWeights& weights, std::span<float> hidden, const LayerCache& cache,
            LayerContext& context)
      : weights_(weights),
        config_(context.config),
        buffers_(context.buffers),
        context_(context),
        cache_(cache),
        hidden_(hidden.data()),
        tokens_(static_cast<int64_t>(hidden.size()) / config_.hidden),
        query_width_(config_.heads * config_.head_dim),
        kv_width_(config_.kv_heads * config_.head_dim) {
    check(tokens_ * config_.hidden == static_cast<int64_t>(hidden.size()));
    check(hidden.size() <= buffers_.normed.size());
    check(cache.length + tokens_ <= cache.capacity);
  }

  /// As does mlp(): false where the observer wants no more.
  bool attention() {
    norm(weights_.attention_norm);
    if (!feed(Role::kQuery, buffers_.normed, config_.hidden)) return false;
    multiply_into({{&weights_.query, buffers_.query.data(), query_width_},
                   {&weights_.key, buffers_.key.data(), kv_width_},
                   {&weights_.value, buffers_.value.data(), kv_width_}});
    rotate_and_store();
    buffers_.attention.run(buffers_.query.data(), tokens_, cache_, buffers_.mixed.data(),
                           context_.pool);
    if (!feed(Role::kAttentionOutput, buffers_.mixed, query_width_)) return false;
    multiply_into({{&weights_.attention_output, buffers_.branch.data(), config_.hidden}});
    add_branch();
    return true;
  }

  bool mlp() {
    norm(weights_.mlp_norm);
    if (!feed(Role::kGate, buffers_.normed, config_.hidden)) return false;
    multiply_into({{&weights_.gate, buffers_.gate.data(), config_.ffn},
                   {&weights_.up, buffers_.up.data(), config_.ffn}});
    activate();
    if (!feed(Role::kDown, buffers_.gate, config_.ffn)) return false;
    multiply_into({{&weights_.down, buffers_.branch.data(), config_.hidden}});
    add_branch();
    return true;
  }

 private:
  void norm(const std::vector<float>& gain) {
    const auto epsilon = static_cast<float>(config_.norm_epsilon);
    parallel_for(context_.pool, tokens_, kTokensPerTask, [&](int64_t t) {
      const int64_t row = t * config_.hidden;
      kernels().rms_norm(hidden_ + row, gain.data(), epsilon, config_.hidden,
                         buffers_.normed.data() + row);
    });
  }

  bool feed(Role site, const std::vector<float>& values, int64_t columns) {
    const std::span input(values.data(), static_cast<size_t>(tokens_ * columns));
    if (context_.observer != nullptr && !(*context_.observer)(site, input, tokens_)) return false;
    buffers_.input.assign(input.data(), tokens_, columns);
    return true;
  }

  void multiply_into(std::initializer_list<MatrixProduct> products) {
    multiply(std::span(products.begin(), products.size()), buffers_.input, context_.pool);
  }

  void rotate_and_store() {
    parallel_for(context_.pool, tokens_, kTokensPerTask, [&](int64_t t) {
      rotate(buffers_.query.data() + t * query_width_, config_.heads, t);
      rotate(buffers_.key.data() + t * kv_width_, config_.kv_heads, t);
      const int64_t position = cache_.length + t;
      for (int64_t head = 0; head < config_.kv_heads; ++head) {
        const int64_t offset = t * kv_width_ + head * config_.head_dim;
        kernels().floats_to_halves(buffers_.key.data() + offset, config_.head_dim,
                                   cache_.key(head, position));
        kernels().floats_to_halves(buffers_.value.data() + offset, config_.head_dim,
                                   cache_.value(head, position));
      }
    });
  }

  void rotate(float* row, int64_t heads, int64_t token) {
    for (int64_t head = 0; head < heads; ++head) {
      kernels().rope_halves(row + head * config_.head_dim, context_.rope.cosines(token),
                            context_.rope.sines(token), config_.head_dim);
    }
  }

  void activate() {
    const int64_t parts = divide_up(config_.ffn, kColumnsPerTask);
    parallel_for(context_.pool, tokens_ * parts, 1, [&](int64_t task) {
      const int64_t begin = task % parts * kColumnsPerTask;
      const int64_t offset = task / parts * config_.ffn + begin;
      kernels().silu_multiply(buffers_.gate.data() + offset, buffers_.up.data() + offset,
                              std::min(kColumnsPerTask, config_.ffn - begin),
                              buffers_.gate.data() + offset);
    });
  }

  void add_branch() {
    parallel_for(context_.pool, tokens_, kTokensPerTask, [&](int64_t t) {
      const int64_t row = t * config_.hidden;
      kernels().add(hidden_ + row, buffers_.branch.data() + row, config_.hidden);
    });
  }

  const LayerWeights& weights_;
  const ModelConfig& config_;
  LayerBuffers& buffers_;
  LayerContext& context_;
  const LayerCache& cache_;
  float* hidden_;
  int64_t tokens_;
  int64_t query_width_, kv_width_;
};

}  // namespace

LayerBuffers::LayerBuffers(const ModelConfig& config, int64_t most_tokens, int threads)
    : attention(config, threads) {
  const auto size = [&](int64_t columns) { return static_cast<size_t>(most_tokens * columns); };
  for (auto* buffer : {&normed, &branch}) buffer->resize(size(config.hidden));
  for (auto* buffer : {&query, &mixed}) buffer->resize(size(config.heads * config.head_dim));
  for (auto* buffer : {&key, &value}) buffer->resize(size(config.kv_heads * config.head_dim));
  for (auto* buffer : {&gate, &up}) buffer->resize(size(config.ffn));
}

void forward_layer(const LayerWeights& weights, std::span<float> hidden, const LayerCache& cache,
                   LayerContext& context) {
  LayerPass pass(weights, hidden, cache, context);
  if (pass.attention()) pass.mlp();
}

}  // namespace fewbits
