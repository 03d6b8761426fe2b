#include "train/layer_learning.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/normal_values.h"
#include "engine/engine.h"
#include "model/tiny_checkpoint.h"

namespace fewbits {
namespace {

/// The first layer of a tiny model, to be learned in a format, and samples of what it should give.
struct TinyLayer {
  TinyLayer() : model(open(checkpoint)), rope(rope_table(model, 7)) {
    rope.prepare(0, 7);
    load_dense_layer(model, 0, {}, layer, pool);
  }

  static Model open(TinyCheckpoint& checkpoint) {
    checkpoint.config["hidden_size"] = 64;
    checkpoint.config["num_attention_heads"] = 4;
    checkpoint.config["intermediate_size"] = 96;
    checkpoint.fill();
    return open_model(checkpoint.write());
  }

  LayerSamples samples(int64_t count, unsigned seed) {
    LayerSamples samples{.count = count, .length = 7};
    samples.inputs = normal_values(count * 7 * model.config.hidden, seed);
    LayerLearner(model.config, rope, layer, {}, pool).run(samples, samples.wanted);
    return samples;
  }

  std::map<Role, LearnedRounding> roundings(const Format& format) {
    std::map<Role, LearnedRounding> roundings;
    for (const Role role : dense_matrices()) {
      const std::vector<float>& values = *layer.matrix(role);
      const int64_t columns = model.find(role, 0)->columns(), rows = std::ssize(values) / columns;
      std::vector<std::byte> bytes(static_cast<size_t>(rows * row_bytes(format, columns)));
      encode_rows(format, values.data(), rows, columns, nullptr, Search::kBest, bytes.data());
      roundings.try_emplace(role, format, columns, values, bytes, std::vector<int32_t>());
    }
    return roundings;
  }

  LayerLearner learner(const Format& format) {
    return {model.config, rope, layer, roundings(format), pool};
  }

  TinyCheckpoint checkpoint;
  ThreadPool pool{2};
  Model model;
  RopeTable rope;
  DenseLayer layer;
};

/// The gradient that moves places is the slope of the loss by the values, taken where these are
/// rounded: every value that changed did so down the slope that differences give.
TEST(LayerLearner, CodesMoveDownTheSlopeOfTheLoss) {
  TinyLayer tiny;
  const Format& format = format_named("Q4_0");
  const LayerSamples samples = tiny.samples(2, 5);
  LayerLearner learner = tiny.learner(format);
  DenseLayer rounded = tiny.layer;
  for (auto& [role, rounding] : tiny.roundings(format)) {
    rounding.values(*rounded.matrix(role), tiny.pool);
  }
  learner.step(samples, {.place = 0.1f, .scale = 0});
  const auto bytes = learner.bytes();
  int64_t moved = 0;
  for (const Role role : dense_matrices()) {
    std::vector<float>& values = *rounded.matrix(role);
    std::vector<float> after(values.size());
    decode(format, bytes.at(role).data(), std::ssize(after), after.data());
    for (size_t i = 0; i < values.size(); i += 41) {
      if (after[i] == values[i]) continue;
      const float kept = values[i];
      const auto loss = [&](float step) {
        values[i] = kept + step;
        return LayerLearner(tiny.model.config, tiny.rope, rounded, {}, tiny.pool).loss(samples);
      };
      constexpr float kStep = 4e-3f;
      const double slope = (loss(kStep) - loss(-kStep)) / (2 * kStep);
      values[i] = kept;
      EXPECT_LE((after[i] - kept) * slope, 1e-7) << i;
      ++moved;
    }
  }
  EXPECT_GT(moved, 10);
}

TEST(LayerLearner, LossFallsInEveryFormat) {
  TinyLayer tiny;
  const LayerSamples samples = tiny.samples(8, 5);
  for (const Format* format : formats()) {
    if (!LearnedRounding::can_learn(*format) || format->block_values != 32) continue;
    if (format->levels.size() > 16) continue;  // hardly anything is lost
    LayerLearner learner = tiny.learner(*format);
    const double before = learner.loss(samples);
    constexpr int kSteps = 24;
    for (int step = 0; step < kSteps; ++step) {
      const float left = 1 - static_cast<float>(step) / kSteps;
      learner.step(samples, {0.02f * left, 0.001f * left});
    }
    EXPECT_LT(learner.loss(samples), 0.9 * before) << format->name;
  }
}

}  // namespace
}  // namespace fewbits
