#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "engine/rope.h"
#include "model/tiny_checkpoint.h"

// For tests: the forward pass of a Llama written for the reader, in double precision, without a
// cache, straight from the checkpoint's tensors.
namespace fewbits {

class NaiveLlama {
 public:
  using Rows = std::vector<std::vector<double>>;  ///< one for each token

  NaiveLlama(const TinyCheckpoint& checkpoint, const ModelConfig& config)
      : checkpoint_(checkpoint),
        config_(config),
        frequencies_(rope_frequencies(config, llama3_rope_factors(config))) {}

  Rows logits(const std::vector<int32_t>& tokens) const {
    Rows states;
    for (const int32_t token : tokens) {
      states.push_back(row_of("model.embed_tokens.weight", token));
    }
    for (int64_t layer = 0; layer < config_.layers; ++layer) run_layer(layer, states);
    const Rows normed = norm(states, "model.norm.weight");
    return times(normed, config_.tied_embeddings ? "model.embed_tokens.weight" : "lm_head.weight");
  }

 private:
  const TinyCheckpoint::Tensor& tensor(const std::string& name) const {
    return checkpoint_.tensors.at(name);
  }

  std::vector<double> row_of(const std::string& name, int64_t row) const {
    const auto& [shape, values] = tensor(name);
    const auto begin = values.begin() + row * shape.back();
    return {begin, begin + shape.back()};
  }

  Rows times(const Rows& inputs, const std::string& name) const {
    Rows outputs(inputs.size());
    for (int64_t r = 0; r < tensor(name).shape[0]; ++r) {
      const std::vector<double> weights = row_of(name, r);
      for (size_t t = 0; t < inputs.size(); ++t) outputs[t].push_back(dot(weights, inputs[t]));
    }
    return outputs;
  }

  static double dot(const std::vector<double>& a, const std::vector<double>& b) {
    double sum = 0;
    for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
    return sum;
  }

  Rows norm(Rows rows, const std::string& name) const {
    const std::vector<double> gain = row_of(name, 0);
    for (auto& row : rows) {
      const double square = dot(row, row) / static_cast<double>(row.size());
      for (size_t i = 0; i < row.size(); ++i) {
        row[i] *= gain[i] / std::sqrt(square + config_.norm_epsilon);
      }
    }
    return rows;
  }

  static void add(Rows& states, const Rows& branch) {
    for (size_t t = 0; t < states.size(); ++t) {
      for (size_t i = 0; i < states[t].size(); ++i) states[t][i] += branch[t][i];
    }
  }

  void run_layer(int64_t layer, Rows& states) const {
    const std::string prefix = fmt::format("model.layers.{}.", layer);
    const Rows n = norm(states, prefix + "input_layernorm.weight");
    Rows queries = times(n, prefix + "self_attn.q_proj.weight");
    Rows keys = times(n, prefix + "self_attn.k_proj.weight");
    const Rows values = times(n, prefix + "self_attn.v_proj.weight");
    rotate(queries);
    rotate(keys);
    add(states, times(attend(queries, keys, values), prefix + "self_attn.o_proj.weight"));
    const Rows m = norm(states, prefix + "post_attention_layernorm.weight");
    Rows gate = times(m, prefix + "mlp.gate_proj.weight");
    const Rows up = times(m, prefix + "mlp.up_proj.weight");
    for (size_t t = 0; t < gate.size(); ++t) {
      for (size_t i = 0; i < gate[t].size(); ++i) {
        gate[t][i] *= up[t][i] / (1 + std::exp(-gate[t][i]));
      }
    }
    add(states, times(gate, prefix + "mlp.down_proj.weight"));
  }

  void rotate(Rows& rows) const {
    const size_t half = frequencies_.size();
    for (size_t t = 0; t < rows.size(); ++t) {
      for (size_t i = 0; i < rows[t].size(); ++i) {
        if (i % (2 * half) >= half) continue;
        const double angle = static_cast<double>(t) * frequencies_[i % half];
        const double a = rows[t][i], b = rows[t][i + half];
        rows[t][i] = a * std::cos(angle) - b * std::sin(angle);
        rows[t][i + half] = a * std::sin(angle) + b * std::cos(angle);
      }
    }
  }

  Rows attend(const Rows& queries, const Rows& keys, const Rows& values) const {
    Rows out(queries.size(), std::vector<double>(queries[0].size()));
    for (size_t t = 0; t < queries.size(); ++t) {
      for (int64_t head = 0; head < config_.heads; ++head) {
        attend_head(queries[t], keys, values, head, t, out[t]);
      }
    }
    return out;
  }

  void attend_head(const std::vector<double>& query, const Rows& keys, const Rows& values,
                   int64_t head, size_t last, std::vector<double>& out) const {
    const auto dim = static_cast<size_t>(config_.head_dim);
    const size_t from = static_cast<size_t>(head) * dim;
    const size_t kv = static_cast<size_t>(head / (config_.heads / config_.kv_heads)) * dim;
    double sum = 0;
    std::vector<double> weights;
    for (size_t s = 0; s <= last; ++s) {
      double score = 0;
      for (size_t i = 0; i < dim; ++i) score += query[from + i] * keys[s][kv + i];
      weights.push_back(std::exp(score / std::sqrt(static_cast<double>(dim))));
      sum += weights.back();
    }
    for (size_t s = 0; s <= last; ++s) {
      for (size_t i = 0; i < dim; ++i) out[from + i] += weights[s] / sum * values[s][kv + i];
    }
  }

  const TinyCheckpoint& checkpoint_;
  const ModelConfig& config_;
  std::vector<double> frequencies_;
};

}  // namespace fewbits
