#include "pipeline/tune.h"

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>

#include "model/tiny_checkpoint.h"

namespace fewbits {
namespace {

/// A tiny model, and itself in Q4_0.
struct TinyPair {
  TinyPair() {
    checkpoint.config["hidden_size"] = 64;
    checkpoint.config["num_attention_heads"] = 4;
    checkpoint.config["intermediate_size"] = 96;
    checkpoint.fill();
    const Model model = open_model(checkpoint.write());
    ThreadPool pool(2);
    run_quantize(model, plan_quantize(model, {.to = "Q4_0"}), {}, checkpoint / "small.gguf", pool);
    for (int i = 0; i < 20; ++i) {
      std::vector<Token> sample = {1};
      for (int j = 1; j < 24; ++j) sample.push_back(260 + (i * 7 + j * j) % 26);
      samples.push_back(sample);
    }
  }

  TuneResult tune(int threads, const TuneOptions& options) {
    const Model reference = open_model(checkpoint / ""),
                model = open_model(checkpoint / "small.gguf");
    EXPECT_EQ(why_not_tunable(model, reference), "");
    ThreadPool pool(threads);
    Tuner tuner(model, reference, pool);
    const TuneResult result = tuner.run(samples, options, [](const TuneProgress&) {});
    QuantizeRun run;
    run.encoder = [&](const PlannedWeight& planned) { return tuner.encoded(*planned.weight); };
    run_quantize(model, plan_copy(model), run, checkpoint / "tuned.gguf", pool);
    return result;
  }

  std::string tuned_bytes() const {
    std::ifstream file(checkpoint / "tuned.gguf", std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  TinyCheckpoint checkpoint;
  std::vector<std::vector<Token>> samples;
};

const TuneOptions kQuick = {.learning_rate = 0.01, .epochs = 4, .batch = 3, .held_out = 0.2};

TEST(Tune, PredictionsComeNearerOnTextNotTrainedOn) {
  TinyPair pair;
  const TuneResult result = pair.tune(2, kQuick);
  EXPECT_LT(result.after, 0.8 * result.before);
  EXPECT_EQ(result.steps, 24);
}

TEST(Tune, BytesDependOnNoThreadCount) {
  const TuneOptions kOneEpoch = {.learning_rate = 0.01, .epochs = 1, .batch = 3, .held_out = 0.2};
  TinyPair pair;
  pair.tune(1, kOneEpoch);
  const std::string once = pair.tuned_bytes();
  for (const int threads : {2, 7}) {
    pair.tune(threads, kOneEpoch);
    EXPECT_EQ(pair.tuned_bytes(), once);
  }
}

TEST(Tune, EndsWhenItsTimeIsOver) {
  TinyPair pair;
  TuneOptions options = kQuick;
  options.epochs = 1000;
  int asked = 0;
  options.time_over = [&] { return 0.125 * asked++; };
  const TuneResult result = pair.tune(2, options);
  EXPECT_EQ(result.steps, 8);
  EXPECT_LT(result.after, result.before);
}

TEST(Tune, WhatDoesNotHelpIsNotKept) {
  TinyPair pair;
  const TuneResult result = pair.tune(2, {.learning_rate = 1, .epochs = 1, .batch = 8});
  EXPECT_EQ(result.after, result.before);
}

}  // namespace
}  // namespace fewbits
