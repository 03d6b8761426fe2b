#include "train/dense_layer.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "base/error.h"
#include "engine/attention.h"
#include "engine/embedder.h"
#include "engine/parallel.h"
#include "kernels/kernel_table.h"
#include "train/attention_gradients.h"
#include "train/dense.h"

namespace fewbits {
namespace {

constexpr int64_t kTokensPerTask = 16;

size_t at(int64_t i) {
  return static_cast<size_t>(i);
}

void add_bias(std::vector<float>& rows, const std::vector<float>& bias) {
  if (bias.empty()) return;
  for (size_t i = 0; i < rows.size(); ++i) rows[i] += bias[i % bias.size()];
}

float sigmoid(float x) {
  return 1 / (1 + std::exp(-x));
}

AttentionShape shape_of(const ModelConfig& config, const Batch& batch, int64_t window) {
  return {.sequences = batch.sequences,
          .length = batch.length,
          .heads = config.heads,
          .kv_heads = config.kv_heads,
          .head_dim = config.head_dim,
          .window = window,
          .scale = score_scale(config)};
}

}  // namespace

std::span<const Role> dense_matrices() {
  static constexpr std::array kRoles = {
      Role::kQuery, Role::kKey, Role::kValue, Role::kAttentionOutput,
      Role::kGate,  Role::kUp,  Role::kDown};
  return kRoles;
}

std::vector<float>* DenseLayer::matrix(Role role) {
  switch (role) {
    case Role::kQuery:
      return &query;
    case Role::kKey:
      return &key;
    case Role::kValue:
      return &value;
    case Role::kAttentionOutput:
      return &attention_output;
    case Role::kGate:
      return &gate;
    case Role::kUp:
      return &up;
    case Role::kDown:
      return &down;
    default:
      return nullptr;
  }
}

void load_dense_layer(const Model& model, int64_t index, const MatrixSource& source,
                      DenseLayer& layer, ThreadPool& pool) {
  const auto vector = [&](Role role) { return load_values(model, role, index); };
  layer.attention_norm = vector(Role::kAttentionNorm);
  layer.mlp_norm = vector(Role::kMlpNorm);
  layer.query_norm = vector(Role::kQueryNorm);
  layer.key_norm = vector(Role::kKeyNorm);
  layer.query_bias = vector(Role::kQueryBias);
  layer.key_bias = vector(Role::kKeyBias);
  layer.value_bias = vector(Role::kValueBias);
  layer.window = model.config.slides(index) ? model.config.sliding_window : 0;
  for (const Role role : dense_matrices()) {
    const Weight* weight = model.find(role, index);
    check(weight != nullptr);
    std::vector<float>& values = *layer.matrix(role);
    if (source && source(*weight, values)) continue;
    values.resize(at(weight->values()));
    parallel_for(pool, weight->rows(), kTokensPerTask, [&](int64_t row) {
      weight->read_row(row, values.data() + row * weight->columns());
    });
    weight->drop_pages();
  }
}

std::string why_not_trainable(const Model& model) {
  const ModelConfig& config = model.config;
  const LayerDesign& design = config.design;
  if (design.norm != LayerDesign::Norm::kRms) return "its norms are not RMS norms";
  if (design.activation != LayerDesign::Activation::kSilu) return "its activation is not SiLU";
  if (!config.has_rope() || config.turned_dims() != config.head_dim) {
    return "its positions are not rotary over whole heads";
  }
  if (design.parallel || !design.causal) return "attention and feed-forward part are not in turn";
  if (config.attention_cap != 0 || config.logit_cap != 0) return "its scores or logits are capped";
  if (config.residual_scale != 1) return "what its layers add is scaled";
  for (const Weight& weight : model.weights) {
    using enum Role;
    constexpr std::array kKnown = {kEmbedding,     kOutputNorm, kOutput,    kRopeFactors,
                                   kAttentionNorm, kMlpNorm,    kQueryBias, kKeyBias,
                                   kValueBias,     kQueryNorm,  kKeyNorm};
    const bool matrix = std::ranges::find(dense_matrices(), weight.role) != dense_matrices().end();
    if (!matrix && std::ranges::find(kKnown, weight.role) == kKnown.end()) {
      return "it has " + weight.gguf_name;
    }
  }
  const bool head_norms = design.query_key_norm == LayerDesign::QueryKeyNorm::kHead;
  if (!head_norms && model.find(Role::kQueryNorm, 0) != nullptr) {
    return "its norms of queries and keys are not those of heads";
  }
  if (model.find(Role::kGate, 0) == nullptr) return "its feed-forward part has no gate";
  return "";
}

void rms_forward(std::span<const float> gain, double epsilon, std::span<const float> x, float* out,
                 ThreadPool& pool) {
  const int64_t width = std::ssize(gain);
  parallel_for(pool, std::ssize(x) / width, kTokensPerTask, [&](int64_t t) {
    kernels().rms_norm(x.data() + t * width, gain.data(), static_cast<float>(epsilon), width,
                       out + t * width);
  });
}

std::vector<float> rms_backward(std::span<const float> gain, double epsilon,
                                std::span<const float> x, const float* dy, float* dx) {
  const size_t width = gain.size();
  std::vector<double> of_gain(width);
  for (size_t begin = 0; begin < x.size(); begin += width) {
    const auto row = x.subspan(begin, width);
    double squares = 0, along = 0;
    for (size_t i = 0; i < width; ++i) {
      squares += double{row[i]} * row[i];
      along += double{row[i]} * gain[i] * dy[begin + i];
    }
    const auto columns = static_cast<double>(width);
    const double r = 1 / std::sqrt(squares / columns + epsilon);
    const auto inverse = static_cast<float>(r);
    const auto shrink = static_cast<float>(r * r * r * along / columns);
    for (size_t i = 0; i < width; ++i) {
      dx[begin + i] += inverse * gain[i] * dy[begin + i] - row[i] * shrink;
      of_gain[i] += double{dy[begin + i]} * row[i] * inverse;
    }
  }
  return {of_gain.begin(), of_gain.end()};
}

DenseLayers::DenseLayers(const ModelConfig& config, const RopeTable& rope, Batch batch,
                         ThreadPool& pool)
    : config_(config), rope_(rope), batch_(batch), pool_(pool) {}

/// Turns every head of every token by the angles of its position, or back.
void DenseLayers::rotate(std::vector<float>& rows, int64_t heads, bool back) const {
  const int64_t half = config_.head_dim / 2;
  parallel_for(pool_, batch_.tokens(), kTokensPerTask, [&](int64_t t) {
    const float* cosines = rope_.cosines(t % batch_.length);
    const float* sines = rope_.sines(t % batch_.length);
    const float sign = back ? -1.0f : 1.0f;
    for (int64_t head = 0; head < heads; ++head) {
      float* low = rows.data() + (t * heads + head) * config_.head_dim;
      float* high = low + half;
      for (int64_t i = 0; i < half; ++i) {
        const float sine = sign * sines[i], x = low[i], y = high[i];
        low[i] = x * cosines[i] - y * sine;
        high[i] = y * cosines[i] + x * sine;
      }
    }
  });
}

/// Where heads have norms, `heads` keeps the rows as they were.
void DenseLayers::norm_heads(const std::vector<float>& gain, std::vector<float>& rows,
                             std::vector<float>& heads) const {
  if (gain.empty()) return;
  std::swap(rows, heads);
  rows.resize(heads.size());
  rms_forward(gain, config_.norm_epsilon, heads, rows.data(), pool_);
}

/// The gradient of normed heads becomes that of the heads.
void DenseLayers::heads_backward(const std::vector<float>& gain, const std::vector<float>& heads,
                                 std::vector<float>& gradient) const {
  if (gain.empty()) return;
  std::vector<float> back(gradient.size());
  rms_backward(gain, config_.norm_epsilon, heads, gradient.data(), back.data());
  gradient = std::move(back);
}

void DenseLayers::forward(const DenseLayer& layer, std::span<float> states, LayerTape& tape) const {
  const int64_t tokens = batch_.tokens(), width = config_.hidden;
  const int64_t query_width = config_.heads * config_.head_dim;
  const int64_t kv_width = config_.kv_heads * config_.head_dim;
  const auto apply = [&](const std::vector<float>& weights, const std::vector<float>& x,
                         int64_t outputs, std::vector<float>& y) {
    y.resize(at(tokens * outputs));
    apply_map({tokens, outputs, std::ssize(x) / tokens}, x.data(), weights.data(), y.data(), pool_);
  };
  const auto normed = [&](const std::vector<float>& gain, const std::vector<float>& x,
                          std::vector<float>& out) {
    out.resize(x.size());
    rms_forward(gain, config_.norm_epsilon, x, out.data(), pool_);
  };

  tape.input.assign(states.begin(), states.end());
  normed(layer.attention_norm, tape.input, tape.normed);
  apply(layer.query, tape.normed, query_width, tape.query);
  apply(layer.key, tape.normed, kv_width, tape.key);
  apply(layer.value, tape.normed, kv_width, tape.value);
  add_bias(tape.query, layer.query_bias);
  add_bias(tape.key, layer.key_bias);
  add_bias(tape.value, layer.value_bias);
  norm_heads(layer.query_norm, tape.query, tape.query_heads);
  norm_heads(layer.key_norm, tape.key, tape.key_heads);
  rotate(tape.query, config_.heads, false);
  rotate(tape.key, config_.kv_heads, false);
  tape.mixed.resize(at(tokens * query_width));
  attend_forward(shape_of(config_, batch_, layer.window),
                 {tape.query.data(), tape.key.data(), tape.value.data()}, tape.mixed.data(), pool_);
  apply(layer.attention_output, tape.mixed, width, tape.middle);
  for (size_t i = 0; i < tape.middle.size(); ++i) tape.middle[i] += tape.input[i];

  normed(layer.mlp_norm, tape.middle, tape.mlp_normed);
  apply(layer.gate, tape.mlp_normed, config_.ffn, tape.gate);
  apply(layer.up, tape.mlp_normed, config_.ffn, tape.up);
  tape.product.resize(tape.gate.size());
  parallel_for(pool_, tokens, kTokensPerTask, [&](int64_t t) {
    for (size_t i = at(t * config_.ffn); i < at((t + 1) * config_.ffn); ++i) {
      tape.product[i] = tape.gate[i] * sigmoid(tape.gate[i]) * tape.up[i];
    }
  });
  apply_map({tokens, width, config_.ffn}, tape.product.data(), layer.down.data(), states.data(),
            pool_);
  for (size_t i = 0; i < states.size(); ++i) states[i] += tape.middle[i];
}

/// y = x W^T, on the way back.
struct DenseLayers::Map {
  Role role;
  const std::vector<float>&weights, &input;
  const float* gradient;               ///< of y
  std::vector<float>& input_gradient;  ///< added to
};

void DenseLayers::map_backward(const Map& map, LayerGradients& gradients) {
  const int64_t tokens = batch_.tokens();
  const int64_t inputs = std::ssize(map.input) / tokens;
  const DenseShape shape{tokens, std::ssize(map.weights) / inputs, inputs};
  add_input_gradient(shape, map.gradient, map.weights.data(), map.input_gradient.data(), pool_);
  weight_gradient_.resize(map.weights.size());
  weight_gradient(shape, map.gradient, map.input.data(), weight_gradient_.data(), pool_);
  gradients.matrix(map.role, weight_gradient_);
}

void DenseLayers::mlp_backward(const DenseLayer& layer, const LayerTape& tape,
                               std::span<float> gradient, LayerGradients& gradients) {
  product_.assign(tape.product.size(), 0.0f);
  map_backward({Role::kDown, layer.down, tape.product, gradient.data(), product_}, gradients);
  gate_.resize(tape.gate.size());
  up_.resize(tape.up.size());
  parallel_for(pool_, batch_.tokens(), kTokensPerTask, [&](int64_t t) {
    for (size_t i = at(t * config_.ffn); i < at((t + 1) * config_.ffn); ++i) {
      const float x = tape.gate[i], share = sigmoid(x);
      up_[i] = product_[i] * x * share;
      gate_[i] = product_[i] * tape.up[i] * share * (1 + x * (1 - share));
    }
  });
  normed_gradient_.assign(tape.mlp_normed.size(), 0.0f);
  map_backward({Role::kGate, layer.gate, tape.mlp_normed, gate_.data(), normed_gradient_},
               gradients);
  map_backward({Role::kUp, layer.up, tape.mlp_normed, up_.data(), normed_gradient_}, gradients);
  gradients.mlp_norm = rms_backward(layer.mlp_norm, config_.norm_epsilon, tape.middle,
                                    normed_gradient_.data(), gradient.data());
}

void DenseLayers::attention_backward(const DenseLayer& layer, const LayerTape& tape,
                                     std::span<float> gradient, LayerGradients& gradients) {
  mixed_.assign(tape.mixed.size(), 0.0f);
  map_backward(
      {Role::kAttentionOutput, layer.attention_output, tape.mixed, gradient.data(), mixed_},
      gradients);
  query_.resize(tape.query.size());
  key_.resize(tape.key.size());
  value_.resize(tape.value.size());
  attend_backward(shape_of(config_, batch_, layer.window),
                  {tape.query.data(), tape.key.data(), tape.value.data()}, mixed_.data(),
                  {query_.data(), key_.data(), value_.data()}, pool_);
  rotate(query_, config_.heads, true);
  rotate(key_, config_.kv_heads, true);
  heads_backward(layer.query_norm, tape.query_heads, query_);
  heads_backward(layer.key_norm, tape.key_heads, key_);
  normed_gradient_.assign(tape.normed.size(), 0.0f);
  map_backward({Role::kQuery, layer.query, tape.normed, query_.data(), normed_gradient_},
               gradients);
  map_backward({Role::kKey, layer.key, tape.normed, key_.data(), normed_gradient_}, gradients);
  map_backward({Role::kValue, layer.value, tape.normed, value_.data(), normed_gradient_},
               gradients);
  gradients.attention_norm = rms_backward(layer.attention_norm, config_.norm_epsilon, tape.input,
                                          normed_gradient_.data(), gradient.data());
}

void DenseLayers::backward(const DenseLayer& layer, const LayerTape& tape,
                           std::span<float> gradient, LayerGradients& gradients) {
  mlp_backward(layer, tape, gradient, gradients);
  attention_backward(layer, tape, gradient, gradients);
}

}  // namespace fewbits
