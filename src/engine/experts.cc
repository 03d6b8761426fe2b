#include "engine/experts.h"

#include <algorithm>
#include <numeric>
#include <span>

#include "base/error.h"
#include "engine/parallel.h"
#include "kernels/kernel_table.h"

namespace fewbits {
namespace {

constexpr int64_t kTokensPerTask = 4;

/// One token that goes to an expert.
struct Visit {
  int64_t token;
  float weight;
};

/// The experts of one token, best first, equals by number.
std::vector<int64_t> best_of(const float* scores, int64_t experts, int64_t wanted) {
  std::vector<int64_t> order(static_cast<size_t>(experts));
  std::iota(order.begin(), order.end(), 0);
  std::partial_sort(order.begin(), order.begin() + wanted, order.end(), [&](int64_t a, int64_t b) {
    return scores[a] != scores[b] ? scores[a] > scores[b] : a < b;
  });
  order.resize(static_cast<size_t>(wanted));
  return order;
}

/// The weights of one token's chosen experts. Softmax over all of them and then a sum of one over
/// the chosen is the softmax over the chosen. Overwrites `scores` where it is not so.
std::vector<float> weigh(const ModelConfig& config, const std::vector<int64_t>& chosen,
                         float* scores) {
  if (!config.design.expert_weights_normed) kernels().softmax(scores, config.experts);
  std::vector<float> weights;
  for (const int64_t expert : chosen) weights.push_back(scores[expert]);
  if (config.design.expert_weights_normed) kernels().softmax(weights.data(), std::ssize(weights));
  for (float& weight : weights) weight *= static_cast<float>(config.expert_scale);
  return weights;
}

/// Who visits each expert.
std::vector<std::vector<Visit>> route(const ModelConfig& config, float* scores, int64_t tokens) {
  std::vector<std::vector<Visit>> visits(static_cast<size_t>(config.experts));
  for (int64_t token = 0; token < tokens; ++token) {
    float* row = scores + token * config.experts;
    const std::vector<int64_t> chosen = best_of(row, config.experts, config.experts_used);
    const std::vector<float> weights = weigh(config, chosen, row);
    for (size_t i = 0; i < chosen.size(); ++i) {
      visits[static_cast<size_t>(chosen[i])].push_back({token, weights[i]});
    }
  }
  return visits;
}

class ExpertPass {
 public:
  ExpertPass(const LayerWeights& layer, const float* input, float* out, LayerContext& context)
      : experts_(layer.experts),
        rounding_(layer.rounding),
        input_(input),
        out_(out),
        context_(context),
        config_(context.config) {}

  void run(int64_t tokens) {
    LayerBuffers& buffers = context_.buffers;
    buffers.input.assign(input_, tokens, config_.hidden);
    multiply_one(experts_.router, buffers.scores.data(), config_.experts);
    std::fill_n(out_, tokens * config_.hidden, 0.0f);
    const auto visits = route(config_, buffers.scores.data(), tokens);
    for (size_t expert = 0; expert < visits.size(); ++expert) {
      if (!visits[expert].empty()) ask(expert, visits[expert]);
    }
    if (config_.shared_ffn > 0) add_shared(tokens);
  }

 private:
  void assign(const InputRounding& rounding, const float* values, int64_t tokens, int64_t columns) {
    LayerBuffers& buffers = context_.buffers;
    assign_rounded(rounding, values, tokens, columns, buffers.rounded, buffers.input,
                   context_.pool);
  }

  void multiply_one(const PackedMatrix& matrix, float* out, int64_t stride) {
    const MatrixProduct product{&matrix, out, stride};
    multiply({&product, 1}, context_.buffers.input, context_.pool);
  }

  void observe(Role site, size_t expert, const float* input, int64_t tokens, int64_t columns) {
    if (context_.expert_observer == nullptr) return;
    const std::span<const float> values(input, static_cast<size_t>(tokens * columns));
    (*context_.expert_observer)(site, static_cast<int64_t>(expert), values, tokens);
  }

  void add_shared(int64_t tokens) {
    LayerBuffers& buffers = context_.buffers;
    const int64_t ffn = config_.shared_ffn;
    observe(Role::kSharedGate, 0, input_, tokens, config_.hidden);
    assign(rounding_.gate, input_, tokens, config_.hidden);
    const MatrixProduct products[] = {{&experts_.shared_gate, buffers.gate.data(), ffn},
                                      {&experts_.shared_up, buffers.up.data(), ffn}};
    multiply(products, buffers.input, context_.pool);
    parallel_for(context_.pool, tokens, kTokensPerTask, [&](int64_t t) {
      activate(config_.design.activation, buffers.gate.data() + t * ffn,
               buffers.up.data() + t * ffn, ffn);
    });
    observe(Role::kSharedDown, 0, buffers.gate.data(), tokens, ffn);
    assign(rounding_.down, buffers.gate.data(), tokens, ffn);
    multiply_one(experts_.shared_down, buffers.expert_output.data(), config_.hidden);
    kernels().add(out_, buffers.expert_output.data(), tokens * config_.hidden);
  }

  void ask(size_t expert, const std::vector<Visit>& visits) {
    LayerBuffers& buffers = context_.buffers;
    const auto count = static_cast<int64_t>(visits.size());
    const int64_t hidden = config_.hidden, ffn = config_.expert_ffn;
    for (int64_t i = 0; i < count; ++i) {
      std::copy_n(input_ + visits[static_cast<size_t>(i)].token * hidden, hidden,
                  buffers.expert_input.data() + i * hidden);
    }
    observe(Role::kExpertGate, expert, buffers.expert_input.data(), count, hidden);
    assign(rounding_.gate, buffers.expert_input.data(), count, hidden);
    const MatrixProduct products[] = {{&experts_.gate[expert], buffers.gate.data(), ffn},
                                      {&experts_.up[expert], buffers.up.data(), ffn}};
    multiply(products, buffers.input, context_.pool);
    parallel_for(context_.pool, count, kTokensPerTask, [&](int64_t i) {
      activate(config_.design.activation, buffers.gate.data() + i * ffn,
               buffers.up.data() + i * ffn, ffn);
    });
    observe(Role::kExpertDown, expert, buffers.gate.data(), count, ffn);
    assign(rounding_.down, buffers.gate.data(), count, ffn);
    multiply_one(experts_.down[expert], buffers.expert_output.data(), hidden);
    for (int64_t i = 0; i < count; ++i) {
      const Visit& visit = visits[static_cast<size_t>(i)];
      kernels().add_scaled(out_ + visit.token * hidden, buffers.expert_output.data() + i * hidden,
                           visit.weight, hidden);
    }
  }

  const ExpertWeights& experts_;
  const LayerRounding& rounding_;
  const float* input_;
  float* out_;
  LayerContext& context_;
  const ModelConfig& config_;
};

}  // namespace

void forward_experts(const LayerWeights& layer, const float* input, int64_t tokens, float* out,
                     LayerContext& context) {
  ExpertPass(layer, input, out, context).run(tokens);
}

void activate(LayerDesign::Activation activation, float* gate, const float* up, int64_t count) {
  using enum LayerDesign::Activation;
  if (activation == kSilu && up != nullptr) {
    return kernels().silu_multiply(gate, up, count, gate);
  }
  switch (activation) {
    case kSilu:
      kernels().silu(gate, count);
      break;
    case kGelu:
      kernels().gelu(gate, count);
      break;
    case kGeluTanh:
      kernels().gelu_tanh(gate, count);
      break;
    case kRelu:
      kernels().relu(gate, count);
      break;
  }
  if (up != nullptr) kernels().multiply(gate, up, count);
}

}  // namespace fewbits
