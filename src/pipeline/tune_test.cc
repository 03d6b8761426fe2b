#include "pipeline/tune.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "base/error.h"
#include "files/output_file.h"
#include "model/tiny_checkpoint.h"
#include "pipeline/tuning_checkpoint.h"

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

/// Goes on with what `checkpoint` holds, and writes there.
TuneOptions resumable(TuningCheckpoint& checkpoint) {
  TuneOptions options = kQuick;
  options.load = [&](TuningState& state) { return checkpoint.load(state); };
  options.save = [&](const TuningState& state) { checkpoint.save_if_due(state, 1.5); };
  return options;
}

TEST(Tune, GoesOnWhereItWasStopped) {
  TinyPair pair;
  pair.tune(1, kQuick);
  const std::string undisturbed = pair.tuned_bytes();
  for (const int64_t stop : {1, 5, 6, 7, 24}) {  // an epoch has six steps
    SCOPED_TRACE(stop);
    {
      TuningCheckpoint checkpoint(pair.checkpoint / "tuned.gguf", "run");
      TuneOptions options = resumable(checkpoint);
      options.save = [&](const TuningState& state) {
        if (state.steps < stop) return;
        checkpoint.save_if_due(state, 1.5);
        throw Interrupted("stopped");
      };
      EXPECT_THROW(pair.tune(1, options), Interrupted);
      EXPECT_TRUE(checkpoint.keep());
    }
    TuningCheckpoint checkpoint(pair.checkpoint / "tuned.gguf", "run");
    const TuneResult result = pair.tune(1, resumable(checkpoint));
    EXPECT_EQ(result.steps, 24);
    EXPECT_EQ(checkpoint.seconds_before(), 1.5);
    EXPECT_EQ(pair.tuned_bytes(), undisturbed);
  }
  EXPECT_TRUE(left_beside(pair.checkpoint / "tuned.gguf").empty());
}

class Checkpoint : public testing::Test {
 protected:
  Checkpoint() {
    std::filesystem::create_directories(folder_);
    TuningCheckpoint checkpoint(out_, "run");
    checkpoint.save_if_due({.steps = 3, .arrays = {values_}}, 0);
    checkpoint.keep();
  }
  ~Checkpoint() override { std::filesystem::remove_all(folder_); }

  bool loads(const std::string& run, size_t count) {
    std::vector<float> values(count);
    TuningState state{.arrays = {values}};
    TuningCheckpoint checkpoint(out_, run);
    const bool loaded = checkpoint.load(state);
    checkpoint.keep();
    EXPECT_EQ(loaded, values == values_);
    return loaded;
  }

  const std::filesystem::path folder_ = testing::TempDir() + "tuning_checkpoint";
  const std::filesystem::path out_ = folder_ / "out.gguf";
  std::vector<float> values_ = {1, 2.5f, -3};
};

TEST_F(Checkpoint, IsOfOneRunAndOneShape) {
  EXPECT_TRUE(loads("run", 3));
  EXPECT_FALSE(loads("another", 3));
  EXPECT_FALSE(loads("run", 2));
  EXPECT_FALSE(loads("run", 4));
}

TEST_F(Checkpoint, WhatIsNotWholeIsNone) {
  const auto file = left_beside(out_).front();
  std::ifstream in(file, std::ios::binary);
  const std::string whole{std::istreambuf_iterator<char>(in), {}};
  for (size_t i = 0; i < whole.size(); ++i) {
    std::string cut = whole.substr(0, i), turned = whole;
    turned[i] = static_cast<char>(turned[i] ^ 4);
    for (const std::string& damaged : {cut, turned}) {
      std::ofstream(file, std::ios::binary | std::ios::trunc) << damaged;
      ASSERT_FALSE(loads("run", 3)) << i;
    }
  }
}

TEST(Tune, WhatDoesNotHelpIsNotKept) {
  TinyPair pair;
  const TuneResult result = pair.tune(2, {.learning_rate = 1, .epochs = 1, .batch = 8});
  EXPECT_EQ(result.after, result.before);
}

}  // namespace
}  // namespace fewbits
