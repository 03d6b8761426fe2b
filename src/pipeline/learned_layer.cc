#include "pipeline/learned_layer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <utility>

#include "base/interrupt.h"
#include "calibrate/samples.h"
#include "engine/engine.h"

namespace fewbits {
namespace {

constexpr int64_t kLooks = 8;  // at the samples held out
// The engine and the layer that learns sum in different orders, and the engine's cache holds
// halves.
constexpr double kMostDifference = 1e-2;

size_t at(int64_t i) {
  return static_cast<size_t>(i);
}

/// Samples of one length, those learned from and those held out.
struct Split {
  int64_t length = 0;
  std::vector<int64_t> learned, held_out;
};

Split split(const std::vector<int64_t>& lengths, double held_out) {
  Split parts;
  if (lengths.empty()) return parts;
  parts.length = lengths.front();
  std::vector<int64_t> alike;
  for (int64_t i = 0; i < std::ssize(lengths); ++i) {
    if (lengths[at(i)] == parts.length) alike.push_back(i);
  }
  const SampleSplit split = split_samples(std::ssize(alike), held_out);
  for (const int64_t i : split.learned) parts.learned.push_back(alike[at(i)]);
  for (const int64_t i : split.held_out) parts.held_out.push_back(alike[at(i)]);
  return parts;
}

std::map<Role, LearnedRounding> roundings_of(RoundedLayer& layer) {
  std::map<Role, LearnedRounding> roundings;
  for (RoundedMatrix& matrix : layer.matrices) {
    if (!LearnedRounding::can_learn(*matrix.format)) continue;
    roundings.try_emplace(matrix.weight->role, *matrix.format, matrix.weight->columns(),
                          std::move(matrix.best), matrix.bytes, matrix.weight->gguf_rows);
  }
  return roundings;
}

/// The layer as it computes now.
DenseLayer load(const RoundedLayer& layer, ThreadPool& pool) {
  DenseLayer dense;
  const auto source = [&](const Weight& weight, std::vector<float>& values) {
    for (const RoundedMatrix& matrix : layer.matrices) {
      if (matrix.weight != &weight) continue;
      const int64_t columns = weight.columns(), size = row_bytes(*matrix.format, columns);
      values.resize(at(weight.values()));
      for (int64_t i = 0; i < weight.rows(); ++i) {
        const int64_t row = weight.row_of_gguf(i);
        decode_rows(*matrix.format, matrix.bytes.data() + i * size, 1, columns,
                    values.data() + row * columns);
      }
      return true;
    }
    return false;
  };
  load_dense_layer(layer.model, layer.index, source, dense, pool);
  dense.attention_norm = layer.attention_norm;
  dense.mlp_norm = layer.mlp_norm;
  return dense;
}

class Learning {
 public:
  Learning(RoundedLayer& layer, const LearningOptions& options, ThreadPool& pool)
      : layer_(layer),
        options_(options),
        parts_(split(layer.lengths, options.held_out)),
        rope_(rope_table(layer.model, std::max<int64_t>(1, parts_.length))),
        dense_(load(layer, pool)),
        learner_(layer.model.config, rope_, std::move(dense_), roundings_of(layer), pool) {
    rope_.prepare(0, parts_.length);
  }

  LearnedLayer run(const LearningProgress& progress) {
    LearnedLayer result;
    result.warning = why_not();
    if (!result.warning.empty()) return result;
    result.before = result.after = held_out_loss();
    for (int64_t step = 0; step < options_.steps; ++step) {
      throw_if_interrupted();
      const double loss = learner_.step(next_samples(), rates(step));
      if (progress) progress(step, loss);
      const int64_t look = std::max<int64_t>(1, options_.steps / kLooks);
      if ((step + 1) % look != 0 && step + 1 != options_.steps) continue;
      const double now = held_out_loss();
      if (now >= result.after) continue;
      result.after = now;
      result.bytes = learner_.bytes();
    }
    return result;
  }

 private:
  std::string why_not() {
    if (parts_.held_out.empty()) return "there are too few samples to hold any out";
    const LayerSamples sample = samples({parts_.held_out.front()});
    std::vector<float> states;
    learner_.run(sample, states);
    const std::vector<float> wanted = layer_.output(parts_.held_out.front());
    double lost = 0, size = 0;
    for (size_t i = 0; i < states.size(); ++i) {
      lost += std::pow(double{states[i]} - wanted[i], 2);
      size += std::pow(double{wanted[i]}, 2);
    }
    if (lost <= kMostDifference * kMostDifference * size) return "";
    return "its layers compute something that training does not know";
  }

  LayerSamples samples(const std::vector<int64_t>& chosen) const {
    LayerSamples samples{.count = std::ssize(chosen), .length = parts_.length};
    for (const int64_t sample : chosen) {
      const std::vector<float> input = layer_.input(sample), wanted = layer_.wanted(sample);
      samples.inputs.insert(samples.inputs.end(), input.begin(), input.end());
      samples.wanted.insert(samples.wanted.end(), wanted.begin(), wanted.end());
    }
    return samples;
  }

  double held_out_loss() {
    double sum = 0;
    for (const int64_t sample : parts_.held_out) {
      throw_if_interrupted();
      sum += learner_.loss(samples({sample}));
    }
    return sum / static_cast<double>(parts_.held_out.size());
  }

  /// All samples in turn, in another order each time.
  LayerSamples next_samples() {
    std::vector<int64_t> chosen;
    const auto count = std::min(options_.batch, std::ssize(parts_.learned));
    while (std::ssize(chosen) < count) {
      if (left_.empty()) {
        left_ = parts_.learned;
        std::shuffle(left_.begin(), left_.end(), random_);
      }
      chosen.push_back(left_.back());
      left_.pop_back();
    }
    return samples(chosen);
  }

  RoundingRates rates(int64_t step) const {
    const double steps = static_cast<double>(options_.steps);
    const double left = 1 - static_cast<double>(step) / steps;
    return {static_cast<float>(options_.place_rate * left),
            static_cast<float>(options_.scale_rate * left)};
  }

  RoundedLayer& layer_;
  const LearningOptions& options_;
  Split parts_;
  RopeTable rope_;
  DenseLayer dense_;
  LayerLearner learner_;
  std::mt19937 random_{1};
  std::vector<int64_t> left_;  ///< samples of this turn
};

}  // namespace

std::string why_not_learnable(const Model& model) {
  return why_not_trainable(model);
}

LearnedLayer learn_layer(RoundedLayer layer, const LearningOptions& options, ThreadPool& pool,
                         const LearningProgress& progress) {
  return Learning(layer, options, pool).run(progress);
}

int64_t learning_bytes(const Model& model, int64_t layer, int64_t tokens,
                       const LearningOptions& options, int threads) {
  if (!options.wanted()) return 0;
  int64_t weights = 0, largest = 0;
  for (const Role role : dense_matrices()) {
    const Weight* weight = model.find(role, layer);
    if (weight == nullptr) continue;
    weights += weight->values();
    largest = std::max(largest, weight->values());
  }
  const ModelConfig& config = model.config;
  const int64_t query = config.heads * config.head_dim, kv = config.kv_heads * config.head_dim;
  // Inputs and aims, the tape, and the gradients.
  const int64_t states = 9 * config.hidden + 4 * query + 4 * kv + 6 * config.ffn;
  constexpr int64_t kFloat = sizeof(float);
  constexpr int64_t kStored = 3;  // of each weight: the best bytes so far, those now, parameters
  return weights * (2 * kFloat + LearnedRounding::kBytesPerWeight + kStored) +
         kFloat * (2 * largest + options.batch * tokens * states + threads * 2 * tokens * tokens);
}

double learning_operations(int64_t tokens, const LearningOptions& options) {
  if (!options.wanted()) return 0;
  constexpr double kPasses = 3, kLooking = 1.2, kBoth = 2;  // forward, and twice as much backward
  return kPasses * kLooking * kBoth * static_cast<double>(options.steps * options.batch * tokens);
}

}  // namespace fewbits
