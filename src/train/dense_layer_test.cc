#include "train/dense_layer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/normal_values.h"
#include "engine/engine.h"
#include "model/tiny_checkpoint.h"
#include "train/divergence_gradient.h"

namespace fewbits {
namespace {

constexpr Batch kBatch = {.sequences = 2, .length = 7};

DenseLayer load(const Model& model, int64_t index) {
  ThreadPool pool(1);
  DenseLayer layer;
  load_dense_layer(model, index, {}, layer, pool);
  return layer;
}

/// A tiny layer, inputs for it, and a loss: a fixed random direction times its outputs.
struct TrainedLayer {
  explicit TrainedLayer(const Model& model)
      : config(model.config),
        rope(rope_table(model, kBatch.length)),
        layers(config, rope, kBatch, pool),
        layer(load(model, 0)),
        inputs(normal_values(kBatch.tokens() * config.hidden, 5)),
        direction(normal_values(kBatch.tokens() * config.hidden, 6)) {
    rope.prepare(0, kBatch.length);
  }

  double loss() {
    std::vector<float> states = inputs;
    layers.forward(layer, states, tape);
    double sum = 0;
    for (size_t i = 0; i < states.size(); ++i) sum += double{states[i]} * direction[i];
    return sum;
  }

  /// Slope of the loss along one number.
  double slope(float& value) {
    constexpr float kStep = 4e-3f;
    const float kept = value;
    value = kept + kStep;
    const double above = loss();
    value = kept - kStep;
    const double below = loss();
    value = kept;
    return (above - below) / (2 * kStep);
  }

  ModelConfig config;
  RopeTable rope;
  ThreadPool pool{2};
  DenseLayers layers;
  DenseLayer layer;
  LayerTape tape;
  std::vector<float> inputs, direction;
};

/// Compares some of the gradient with slopes.
void expect_slopes(TrainedLayer& trained, std::vector<float>& values,
                   const std::vector<float>& gradient, const char* name) {
  ASSERT_EQ(values.size(), gradient.size()) << name;
  double largest = 0;
  for (const float value : gradient) largest = std::max(largest, std::abs(double{value}));
  const size_t step = std::max<size_t>(1, values.size() / 23);
  for (size_t i = 0; i < values.size(); i += step) {
    EXPECT_NEAR(trained.slope(values[i]), gradient[i], 3e-3 * largest) << name << " " << i;
  }
}

void expect_forward_as_the_engine(const Model& model) {
  ThreadPool pool(2);
  Engine engine(model, pool);
  KvCache cache(model.config, 16);
  std::vector<Token> tokens = {1, 270, 262, 265, 280, 261, 263};
  std::vector<float> expected = engine.embed(tokens), states = expected;
  RopeTable rope = rope_table(model, 7);
  rope.prepare(0, 7);
  DenseLayers layers(model.config, rope, {1, 7}, pool);
  LayerTape tape;
  for (int64_t i = 0; i < model.config.layers; ++i) {
    engine.run_layer(i, expected, cache);
    layers.forward(load(model, i), states, tape);
  }
  for (size_t i = 0; i < states.size(); ++i) EXPECT_NEAR(states[i], expected[i], 2e-3) << i;
}

TEST(DenseLayer, ForwardIsTheEngines) {
  TinyCheckpoint checkpoint;
  expect_forward_as_the_engine(open_model(checkpoint.write()));
}

void expect_all_slopes(const Model& model) {
  TrainedLayer trained(model);
  std::map<Role, std::vector<float>> matrices;
  LayerGradients gradients;
  gradients.matrix = [&](Role role, std::span<const float> values) {
    matrices[role].assign(values.begin(), values.end());
  };
  trained.loss();
  std::vector<float> of_states = trained.direction;
  trained.layers.backward(trained.layer, trained.tape, of_states, gradients);
  for (const Role role : dense_matrices()) {
    expect_slopes(trained, *trained.layer.matrix(role), matrices[role], "matrix");
  }
  expect_slopes(trained, trained.layer.attention_norm, gradients.attention_norm, "attention norm");
  expect_slopes(trained, trained.layer.mlp_norm, gradients.mlp_norm, "mlp norm");
  expect_slopes(trained, trained.inputs, of_states, "inputs");
}

TEST(DenseLayer, BackwardIsTheSlope) {
  TinyCheckpoint checkpoint;
  expect_all_slopes(open_model(checkpoint.write()));
}

TEST(DenseLayer, BackwardIsTheSlopeWithBiasesAndAWindow) {
  TinyCheckpoint checkpoint;
  checkpoint.config["model_type"] = "qwen2";
  checkpoint.config["use_sliding_window"] = false;
  checkpoint.fill_as_described();
  expect_all_slopes(open_model(checkpoint.write()));
  TinyCheckpoint sliding;
  sliding.config["model_type"] = "mistral";
  sliding.config["sliding_window"] = 3;
  const Model model = open_model(sliding.write());
  TrainedLayer trained(model);
  trained.layer.window = 3;
  expect_all_slopes(model);
}

TEST(DenseLayer, BackwardIsTheSlopeWithNormsOfHeads) {
  TinyCheckpoint checkpoint;
  checkpoint.config["model_type"] = "qwen3";
  checkpoint.config["attention_bias"] = false;
  checkpoint.config["use_sliding_window"] = false;
  checkpoint.fill_as_described();
  const Model model = open_model(checkpoint.write());
  EXPECT_EQ(why_not_trainable(model), "");
  ASSERT_FALSE(load(model, 0).query_norm.empty());
  expect_all_slopes(model);
  expect_forward_as_the_engine(model);
}

TEST(OutputLayer, GradientIsTheSlopeOfTheDivergence) {
  TinyCheckpoint checkpoint;
  const Model model = open_model(checkpoint.write());
  ThreadPool pool(2);
  OutputLayer output(model, pool);
  constexpr int64_t kRows = 3;
  std::vector<float> states = normal_values(kRows * model.config.hidden, 8);
  const std::vector<float> teacher = normal_values(kRows * output.vocabulary(), 9);
  const auto divergence = [&](float* gradient) {
    std::vector<float> logits = teacher;
    return output.divergence(states.data(), kRows, logits, gradient);
  };
  std::vector<float> gradient(states.size());
  EXPECT_GT(divergence(gradient.data()), 0);
  for (size_t i = 0; i < states.size(); i += 5) {
    constexpr float kStep = 1e-2f;
    const float kept = states[i];
    states[i] = kept + kStep;
    const double above = divergence(nullptr);
    states[i] = kept - kStep;
    const double below = divergence(nullptr);
    states[i] = kept;
    EXPECT_NEAR((above - below) / (2 * kStep), gradient[i], 2e-3) << i;
  }
}

TEST(DenseLayer, WhatCannotBeTrainedIsSaid) {
  TinyCheckpoint checkpoint;
  EXPECT_EQ(why_not_trainable(open_model(checkpoint.write())), "");
  TinyCheckpoint other;
  other.config["model_type"] = "gpt2";
  other.config["n_embd"] = 48;
  other.config["n_head"] = 6;
  other.config["n_layer"] = 2;
  other.config["n_positions"] = 64;
  other.fill_as_described();
  EXPECT_NE(why_not_trainable(open_model(other.write())), "");
}

}  // namespace
}  // namespace fewbits
