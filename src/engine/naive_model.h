#pragma once

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>
#include <string>
#include <vector>

#include "base/error.h"
#include "engine/rope.h"
#include "model/tiny_checkpoint.h"

// For tests: the forward pass of every architecture written for the reader, in double precision,
// without a cache, straight from the checkpoint's tensors as Hugging Face keeps them.
namespace fewbits {

class NaiveModel {
 public:
  using Row = std::vector<double>;
  using Rows = std::vector<Row>;  ///< one for each token

  NaiveModel(const TinyCheckpoint& checkpoint, const Architecture& architecture,
             const ModelConfig& config)
      : checkpoint_(checkpoint), architecture_(architecture), config_(config) {}

  Rows logits(const std::vector<int32_t>& tokens) const {
    const Rows table = matrix(Role::kEmbedding);
    Rows states;
    for (size_t t = 0; t < tokens.size(); ++t) {
      states.push_back(table[static_cast<size_t>(tokens[t])]);
      for (double& x : states.back()) x *= config_.embedding_scale;
      if (!has(Role::kPositions)) continue;
      const size_t position = t + static_cast<size_t>(config_.position_offset);
      add(states.back(), matrix(Role::kPositions)[position]);
    }
    for (int64_t layer = 0; layer < config_.layers; ++layer) run_layer(layer, states);
    states = norm(states, Role::kOutputNorm, Role::kOutputNormBias, -1);
    Rows logits = times(states, config_.tied_embeddings ? table : matrix(Role::kOutput));
    for (Row& row : logits) {
      for (double& x : row) x = capped(x * config_.logit_scale, config_.logit_cap);
    }
    return logits;
  }

 private:
  // Tensors by their role

  std::string name_of(Role role, int64_t layer) const {
    std::string first;
    for (const TensorName& name : architecture_.tensors) {
      if (name.role != role) continue;
      std::string here = numbered(name.hugging_face, layer);
      if (checkpoint_.tensors.contains(here)) return here;
      if (first.empty()) first = std::move(here);
    }
    return first;
  }

  bool has(Role role, int64_t layer = -1) const {
    return checkpoint_.tensors.contains(name_of(role, layer));
  }

  /// Rows of outputs, whichever way the checkpoint keeps them.
  Rows matrix(Role role, int64_t layer = -1) const {
    return matrix_named(name_of(role, layer), layer >= 0);
  }

  Rows matrix_named(const std::string& name, bool in_layer) const {
    const auto& [shape, values] = checkpoint_.tensors.at(name);
    const auto columns = static_cast<size_t>(shape.back());
    Rows rows;
    for (size_t i = 0; i < values.size(); i += columns) {
      rows.emplace_back(values.begin() + static_cast<ptrdiff_t>(i),
                        values.begin() + static_cast<ptrdiff_t>(i + columns));
    }
    if (!architecture_.transposed || !in_layer) return rows;
    Rows turned(columns, Row(rows.size()));
    for (size_t i = 0; i < rows.size(); ++i) {
      for (size_t j = 0; j < columns; ++j) turned[j][i] = rows[i][j];
    }
    return turned;
  }

  Row vector(Role role, int64_t layer) const {
    const auto& values = checkpoint_.tensors.at(name_of(role, layer)).values;
    return {values.begin(), values.end()};
  }

  Row bias(Role role, int64_t layer, size_t size) const {
    return has(role, layer) ? vector(role, layer) : Row(size);
  }

  // Arithmetic

  static void add(Row& a, const Row& b) {
    for (size_t i = 0; i < a.size(); ++i) a[i] += b[i];
  }

  static double dot(const Row& a, const Row& b) {
    return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
  }

  static double capped(double x, double cap) { return cap == 0 ? x : cap * std::tanh(x / cap); }

  static Rows times(const Rows& inputs, const Rows& weights) {
    Rows outputs(inputs.size());
    for (size_t t = 0; t < inputs.size(); ++t) {
      for (const Row& row : weights) outputs[t].push_back(dot(row, inputs[t]));
    }
    return outputs;
  }

  Rows linear(const Rows& inputs, Role weights, Role bias_role, int64_t layer) const {
    Rows outputs = times(inputs, matrix(weights, layer));
    for (Row& row : outputs) add(row, bias(bias_role, layer, row.size()));
    return outputs;
  }

  Row normed(Row x, const Row& gain, const Row& offset, bool layer_norm) const {
    const auto size = static_cast<double>(x.size());
    const double mean = layer_norm ? std::accumulate(x.begin(), x.end(), 0.0) / size : 0;
    for (double& value : x) value -= mean;
    const double scale = 1 / std::sqrt(dot(x, x) / size + config_.norm_epsilon);
    const double one = architecture_.norms_around_one ? 1 : 0;
    for (size_t i = 0; i < x.size(); ++i) x[i] = x[i] * scale * (one + gain[i]) + offset[i];
    return x;
  }

  Rows norm(Rows rows, Role gain, Role offset, int64_t layer) const {
    if (!has(gain, layer)) return rows;
    const bool layer_norm = config_.design.norm == LayerDesign::Norm::kLayer;
    for (Row& row : rows) {
      row = normed(row, vector(gain, layer), bias(offset, layer, row.size()), layer_norm);
    }
    return rows;
  }

  double activated(double x) const {
    using enum LayerDesign::Activation;
    switch (config_.design.activation) {
      case kSilu:
        return x / (1 + std::exp(-x));
      case kGelu:
        return x / 2 * (1 + std::erf(x / std::numbers::sqrt2));
      case kGeluTanh:
        return x / 2 *
               (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
      case kRelu:
        return std::max(x, 0.0);
    }
    return 0;
  }

  // The layer

  void run_layer(int64_t layer, Rows& states) const {
    using enum Role;
    const Rows n = norm(states, kAttentionNorm, kAttentionNormBias, layer);
    Rows attention = linear(attend(n, layer), kAttentionOutput, kAttentionOutputBias, layer);
    attention = norm(attention, kAttentionPostNorm, kAttentionPostNormBias, layer);
    const bool one_norm = has(kAttentionNorm, layer) && !has(kMlpNorm, layer);
    const bool together = one_norm || config_.design.parallel;
    if (!together) add_all(states, attention);
    const Rows m = one_norm ? n : norm(states, kMlpNorm, kMlpNormBias, layer);
    Rows mlp = config_.experts > 0 ? experts(m, layer) : plain_mlp(m, layer);
    mlp = norm(mlp, kMlpPostNorm, kMlpPostNormBias, layer);
    if (together) add_all(states, attention);
    add_all(states, mlp);
  }

  void add_all(Rows& states, const Rows& branch) const {
    for (size_t t = 0; t < states.size(); ++t) {
      for (size_t i = 0; i < states[t].size(); ++i) {
        states[t][i] += config_.residual_scale * branch[t][i];
      }
    }
  }

  Rows gated(Rows gate, const Rows& up) const {
    for (size_t t = 0; t < gate.size(); ++t) {
      for (size_t i = 0; i < gate[t].size(); ++i) gate[t][i] = activated(gate[t][i]) * up[t][i];
    }
    return gate;
  }

  Rows plain_mlp(const Rows& m, int64_t layer) const {
    using enum Role;
    Rows inner;
    if (has(kGateUp, layer)) {
      Rows gate = times(m, matrix(kGateUp, layer)), up(gate.size());
      for (size_t t = 0; t < gate.size(); ++t) {
        const auto half = gate[t].begin() + static_cast<ptrdiff_t>(gate[t].size() / 2);
        up[t].assign(half, gate[t].end());
        gate[t].erase(half, gate[t].end());
      }
      inner = gated(gate, up);
    } else if (has(kGate, layer)) {
      inner = gated(times(m, matrix(kGate, layer)), times(m, matrix(kUp, layer)));
    } else {
      inner = linear(m, kUp, kUpBias, layer);
      for (Row& row : inner)
        std::ranges::transform(row, row.begin(), [&](double x) { return activated(x); });
    }
    return linear(inner, kDown, kDownBias, layer);
  }

  Rows experts(const Rows& m, int64_t layer) const {
    const Rows scores = times(m, matrix(Role::kRouter, layer));
    Rows out(m.size(), Row(m.front().size()));
    const auto part = [&](Role role, size_t expert) {
      return matrix_named(numbered(name_of(role, layer), static_cast<int64_t>(expert)), true);
    };
    for (size_t t = 0; t < m.size(); ++t) {
      std::vector<size_t> order(scores[t].size());
      std::iota(order.begin(), order.end(), size_t{0});
      std::ranges::sort(order, [&](size_t a, size_t b) { return scores[t][a] > scores[t][b]; });
      order.resize(static_cast<size_t>(config_.experts_used));
      double total = 0;
      for (const size_t expert : order) total += std::exp(scores[t][expert]);
      for (const size_t expert : order) {
        const Rows one = {m[t]};
        const Rows inner = gated(times(one, part(Role::kExpertGate, expert)),
                                 times(one, part(Role::kExpertUp, expert)));
        const Rows answer = times(inner, part(Role::kExpertDown, expert));
        for (size_t i = 0; i < out[t].size(); ++i) {
          out[t][i] += std::exp(scores[t][expert]) / total * answer[0][i];
        }
      }
    }
    return out;
  }

  // Attention

  struct Heads {
    Rows queries, keys, values;
  };

  Heads project(const Rows& n, int64_t layer) const {
    using enum Role;
    if (!has(kQueryKeyValue, layer)) {
      return {linear(n, kQuery, kQueryBias, layer), linear(n, kKey, kKeyBias, layer),
              linear(n, kValue, kValueBias, layer)};
    }
    const Rows fused = linear(n, kQueryKeyValue, kQueryKeyValueBias, layer);
    const auto dim = static_cast<size_t>(config_.head_dim);
    const auto served = static_cast<size_t>(config_.heads / config_.kv_heads);
    Heads heads{Rows(n.size()), Rows(n.size()), Rows(n.size())};
    for (size_t t = 0; t < n.size(); ++t) {
      for (size_t i = 0; i < fused[t].size(); ++i) {
        const size_t head = i / dim;
        size_t kind = head < static_cast<size_t>(config_.heads)                      ? 0
                      : head < static_cast<size_t>(config_.heads + config_.kv_heads) ? 1
                                                                                     : 2;
        if (architecture_.grouped_qkv) {
          const size_t place = head % (served + 2);
          kind = place < served ? 0 : place - served + 1;
        }
        (kind == 0   ? heads.queries
         : kind == 1 ? heads.keys
                     : heads.values)[t]
            .push_back(fused[t][i]);
      }
    }
    return heads;
  }

  Rows attend(const Rows& n, int64_t layer) const {
    Heads heads = project(n, layer);
    for (size_t t = 0; t < n.size(); ++t) {
      norm_heads(heads.queries[t], Role::kQueryNorm, layer);
      norm_heads(heads.keys[t], Role::kKeyNorm, layer);
      rotate(heads.queries[t], t, layer);
      rotate(heads.keys[t], t, layer);
    }
    Rows out(n.size(), Row(heads.queries[0].size()));
    for (size_t t = 0; t < n.size(); ++t) {
      for (int64_t head = 0; head < config_.heads; ++head)
        attend_head({heads, head, t}, layer, out[t]);
    }
    return out;
  }

  void norm_heads(Row& row, Role role, int64_t layer) const {
    using Kind = LayerDesign::QueryKeyNorm;
    const auto dim = static_cast<size_t>(config_.head_dim);
    const Kind kind = config_.design.query_key_norm;
    if (kind == Kind::kEachHead) {
      const std::string pattern = name_of(role, layer);
      for (size_t head = 0; head < row.size() / dim; ++head) {
        const std::string name = numbered(pattern, static_cast<int64_t>(head));
        if (!checkpoint_.tensors.contains(name)) return;
        const auto& gain = checkpoint_.tensors.at(name).values;
        norm_part(row, head * dim, dim, Row(gain.begin(), gain.end()));
      }
    } else if (has(role, layer)) {
      const size_t size = kind == Kind::kRow ? row.size() : dim;
      for (size_t i = 0; i < row.size(); i += size) norm_part(row, i, size, vector(role, layer));
    }
  }

  void norm_part(Row& row, size_t begin, size_t size, const Row& gain) const {
    const auto first = row.begin() + static_cast<ptrdiff_t>(begin);
    const bool layer_norm = config_.design.norm == LayerDesign::Norm::kLayer;
    const Row part(first, first + static_cast<ptrdiff_t>(size));
    std::ranges::copy(normed(part, gain, Row(size), layer_norm), first);
  }

  void rotate(Row& row, size_t position, int64_t layer) const {
    if (!config_.has_rope()) return;
    const bool local = config_.slides(layer) && config_.rope_theta_local != 0;
    const std::vector<double> frequencies =
        local ? local_rope_frequencies(config_)
              : rope_frequencies(config_, rope_divisors(config_.rope_scaling, config_.rope_theta,
                                                        config_.turned_dims()));
    const size_t half = frequencies.size(), dim = static_cast<size_t>(config_.head_dim);
    for (size_t head = 0; head < row.size(); head += dim) {
      for (size_t i = 0; i < half; ++i) {
        const double angle = static_cast<double>(position) * frequencies[i];
        const double a = row[head + i], b = row[head + i + half];
        row[head + i] = a * std::cos(angle) - b * std::sin(angle);
        row[head + i + half] = a * std::sin(angle) + b * std::cos(angle);
      }
    }
  }

  struct Query {
    const Heads& heads;
    int64_t head;
    size_t token;
  };

  void attend_head(const Query& query, int64_t layer, Row& out) const {
    const auto dim = static_cast<size_t>(config_.head_dim);
    const size_t from = static_cast<size_t>(query.head) * dim;
    const size_t kv = static_cast<size_t>(query.head / (config_.heads / config_.kv_heads)) * dim;
    const double scale = config_.attention_scale != 0 ? config_.attention_scale
                                                      : 1 / std::sqrt(static_cast<double>(dim));
    const auto window =
        config_.slides(layer) ? static_cast<size_t>(config_.sliding_window) : query.token + 1;
    const size_t first = query.token + 1 > window ? query.token + 1 - window : 0;
    double sum = 0;
    Row weights;
    for (size_t s = first; s <= query.token; ++s) {
      double score = 0;
      for (size_t i = 0; i < dim; ++i) {
        score += query.heads.queries[query.token][from + i] * query.heads.keys[s][kv + i];
      }
      weights.push_back(std::exp(capped(score * scale, config_.attention_cap)));
      sum += weights.back();
    }
    for (size_t s = first; s <= query.token; ++s) {
      for (size_t i = 0; i < dim; ++i) {
        out[from + i] += weights[s - first] / sum * query.heads.values[s][kv + i];
      }
    }
  }

  const TinyCheckpoint& checkpoint_;
  const Architecture& architecture_;
  const ModelConfig& config_;
};

}  // namespace fewbits
