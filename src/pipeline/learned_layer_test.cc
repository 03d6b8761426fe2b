#include "pipeline/learned_layer.h"

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <random>

#include "model/tiny_checkpoint.h"
#include "pipeline/calibrated_encoder.h"

namespace fewbits {
namespace {

constexpr LearningOptions kQuick = {
    .steps = 8, .batch = 3, .place_rate = 0.02, .scale_rate = 0.001, .held_out = 0.2};

/// A tiny model whose layers learn after GPTQ.
struct Learned {
  Learned() {
    checkpoint.config["hidden_size"] = 64;
    checkpoint.config["num_attention_heads"] = 4;
    checkpoint.config["intermediate_size"] = 96;
    checkpoint.fill();
    options.learning = kQuick;
    options.learned = [&](int64_t, const LearnedLayer& layer) { layers.push_back(layer); };
    std::mt19937 random(4);
    for (int i = 0; i < 20; ++i) {
      samples.push_back({1});
      for (int j = 1; j < 24; ++j)
        samples.back().push_back(260 + static_cast<Token>(random() % 26));
    }
  }

  std::string quantize(const char* to, int threads) {
    const Model model = open_model(checkpoint.write());
    layers.clear();
    const QuantizePlan plan =
        plan_quantize(model, {.to = to, .pure = true, .output_format = "Q8_0"});
    ThreadPool pool(threads);
    CalibratedEncoder encoder(model, plan, samples, options, pool);
    QuantizeRun run;
    run.encoder = [&](const PlannedWeight& planned) { return encoder.encode(planned); };
    result = run_quantize(model, plan, run, checkpoint / "out.gguf", pool);
    std::ifstream file(checkpoint / "out.gguf", std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  TinyCheckpoint checkpoint;
  CalibrationOptions options;
  std::vector<std::vector<Token>> samples;
  std::vector<LearnedLayer> layers;
  QuantizeResult result;
};

TEST(LearnedLayer, LossNeverRisesOnSamplesHeldOut) {
  Learned learned;
  double before = 0, after = 0;
  for (const bool scaled : {false, true}) {
    for (const char* to : {"Q4_0", "MXFP4"}) {
      SCOPED_TRACE(to);
      learned.options.scaling = scaled ? ColumnScaling::kBalanced : ColumnScaling::kNone;
      learned.quantize(to, 2);
      ASSERT_EQ(learned.layers.size(), 2);
      for (const LearnedLayer& layer : learned.layers) {
        EXPECT_EQ(layer.warning, "");
        EXPECT_LE(layer.after, layer.before);
        EXPECT_EQ(layer.bytes.empty(), layer.after == layer.before);
        before += layer.before;
        after += layer.after;
      }
    }
  }
  EXPECT_LT(after, before);
}

TEST(LearnedLayer, SameBytesForAnyThreadCount) {
  Learned learned;
  learned.options.scaling = ColumnScaling::kBalanced;
  const std::string one = learned.quantize("IQ4_NL", 1);
  EXPECT_EQ(one, learned.quantize("IQ4_NL", 3));
  learned.options.learning = {};
  EXPECT_NE(one, learned.quantize("IQ4_NL", 1));
}

TEST(LearnedLayer, RatesThatRuinALayerLeaveItAsItWas) {
  Learned learned;
  learned.options.learning = {};
  const std::string without = learned.quantize("Q4_0", 2);
  learned.options.learning = kQuick;
  learned.options.learning.scale_rate = 1;
  EXPECT_EQ(without, learned.quantize("Q4_0", 2));
}

TEST(LearnedLayer, FormatsWithoutLevelsStay) {
  Learned learned;
  learned.options.learning = {};
  const std::string without = learned.quantize("F16", 2);
  learned.options.learning = kQuick;
  EXPECT_EQ(without, learned.quantize("F16", 2));
}

TEST(LearnedLayer, TooFewSamplesAreSaid) {
  Learned learned;
  learned.samples.resize(1);
  learned.quantize("Q4_0", 2);
  ASSERT_EQ(learned.layers.size(), 2);
  EXPECT_NE(learned.layers[0].warning, "");
}

}  // namespace
}  // namespace fewbits
