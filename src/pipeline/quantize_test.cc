#include "pipeline/quantize.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>

#include "base/error.h"
#include "calibrate/samples.h"
#include "engine/engine.h"
#include "evaluate/evaluate.h"
#include "model/tiny_checkpoint.h"
#include "pipeline/calibrated_encoder.h"
#include "pipeline/tensor_statistics.h"

namespace fewbits {
namespace {

std::string bytes_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

QuantizeResult quantize_to(const TinyCheckpoint& checkpoint, const QuantizeOptions& options,
                           const std::filesystem::path& out, int threads = 2) {
  const Model model = open_model(checkpoint.write());
  ThreadPool pool(threads);
  return run_quantize(model, plan_quantize(model, options), {}, out, pool);
}

/// 64 wide, so that rows are whole blocks of 32.
void widen(TinyCheckpoint& checkpoint) {
  checkpoint.config["hidden_size"] = 64;
  checkpoint.config["num_attention_heads"] = 4;
  checkpoint.config["intermediate_size"] = 96;
  checkpoint.fill();
}

std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(Quantize, FloatOutputKeepsEveryValueAndItsRow) {
  TinyCheckpoint checkpoint;
  const auto out = checkpoint / "out.gguf";
  const QuantizeResult result = quantize_to(checkpoint, {.to = "F32"}, out);
  EXPECT_EQ(result.relative_error, 0);
  EXPECT_EQ(result.bytes_out, static_cast<int64_t>(std::filesystem::file_size(out)));
  const Model source = open_model(checkpoint / ""), copy = open_model(out);
  ASSERT_EQ(source.weights.size(), copy.weights.size());
  ThreadPool pool(1);
  for (const Weight& weight : source.weights) {
    const Weight* other = copy.find(weight.role, weight.layer);
    ASSERT_NE(other, nullptr) << weight.gguf_name;
    EXPECT_EQ(tensor_statistics(*other, &weight, pool).relative_error, 0) << weight.gguf_name;
  }
}

TEST(Quantize, SameBytesForAnyThreadCount) {
  TinyCheckpoint checkpoint;
  widen(checkpoint);
  for (const char* to : {"Q8_0", "Q4_K_M", "IQ4_NL"}) {
    std::vector<std::string> files;
    for (const int threads : {1, 2, 7}) {
      quantize_to(checkpoint, {.to = to}, checkpoint / "out.gguf", threads);
      files.push_back(bytes_of(checkpoint / "out.gguf"));
    }
    EXPECT_EQ(files[0], files[1]) << to;
    EXPECT_EQ(files[0], files[2]) << to;
  }
}

TEST(Quantize, FormatsByNameOutputAndEmbedding) {
  TinyCheckpoint checkpoint;
  widen(checkpoint);
  const Model model = open_model(checkpoint.write());
  const auto format_of = [&](const QuantizeOptions& options, Role role, int64_t layer) {
    const QuantizePlan plan = plan_quantize(model, options);
    const Weight* weight = model.find(role, layer);
    const auto found = std::find_if(plan.weights.begin(), plan.weights.end(),
                                    [&](const PlannedWeight& p) { return p.weight == weight; });
    return found->format->name;
  };
  const QuantizeOptions globs{.to = "Q8_0",
                              .tensor_formats = {{"blk.*.ffn_*", "Q5_0"}, {"blk.1.*down*", "F16"}}};
  EXPECT_EQ(format_of(globs, Role::kUp, 1), "Q5_0");
  EXPECT_EQ(format_of(globs, Role::kDown, 0), "Q5_0");
  EXPECT_EQ(format_of(globs, Role::kDown, 1), "F16");
  EXPECT_EQ(format_of(globs, Role::kQuery, 1), "Q8_0");
  EXPECT_EQ(format_of(globs, Role::kMlpNorm, 1), "F32");
  const QuantizeOptions ends{.to = "Q4_0", .output_format = "Q8_0", .embedding_format = "Q5_1"};
  EXPECT_EQ(format_of(ends, Role::kOutput, -1), "Q8_0");
  EXPECT_EQ(format_of(ends, Role::kEmbedding, -1), "Q5_1");
  EXPECT_EQ(format_of({.to = "Q4_0"}, Role::kOutput, -1), "Q8_0") << "64 columns: no Q6_K";
  EXPECT_EQ(format_of({.to = "Q4_0", .pure = true}, Role::kOutput, -1), "Q4_0");
}

TEST(Quantize, WhatGgufCannotHoldIsRefusedHereAndOpensAllTheSame) {
  TinyCheckpoint checkpoint;
  checkpoint.tokenizer["normalizer"] = {{"type", "Lowercase"}};
  const Model model = open_model(checkpoint.write());
  EXPECT_FALSE(model.tokenizer.encode("A").empty());
  const std::string error = error_of([&] { plan_quantize(model, {.to = "Q8_0"}); });
  EXPECT_NE(error.find("GGUF cannot hold this normalizer"), std::string::npos) << error;
}

TEST(Quantize, EmulatedFormatsAreRoundedInto16Bits) {
  TinyCheckpoint checkpoint;
  widen(checkpoint);
  const auto out = checkpoint / "emulated.gguf";
  for (const char* name : {"int4_g32", "int8_channel_asym", "fp8_e4m3", "nvfp4_tensor"}) {
    SCOPED_TRACE(name);
    const Format& format = format_named(name);
    const QuantizeResult result = quantize_to(checkpoint, {.emulate = name}, out);
    EXPECT_GT(result.relative_error, 0);
    const Model source = open_model(checkpoint.write());
    const Model model = open_model(out);
    const TensorView& want = source.find(Role::kGate, 0)->tensor->view;
    const TensorView& got = model.find(Role::kGate, 0)->tensor->view;
    EXPECT_EQ(got.format->name, "F16");
    EXPECT_EQ(model.find(Role::kEmbedding)->tensor->view.format->name, "F16");
    std::vector<float> values(static_cast<size_t>(want.values())), again(values.size());
    decode(*want.format, want.bytes.data(), want.values(), values.data());
    std::vector<std::byte> bytes(
        static_cast<size_t>(want.rows() * row_bytes(format, want.columns())));
    encode_rows(format, values.data(), want.rows(), want.columns(), nullptr, Search::kBest,
                bytes.data());
    decode_rows(format, bytes.data(), want.rows(), want.columns(), values.data());
    decode(*got.format, got.bytes.data(), got.values(), again.data());
    for (size_t i = 0; i < values.size(); ++i)
      ASSERT_NEAR(again[i], values[i], 1e-3 * std::abs(values[i]) + 1e-7);
  }
  EXPECT_NE(
      error_of([&] { plan_quantize(open_model(out), {.emulate = "int5"}); }).find("--emulate"),
      std::string::npos);
}

TEST(Quantize, RefusesWhatCannotWork) {
  TinyCheckpoint checkpoint;
  const Model model = open_model(checkpoint.write());
  const auto plan = [&](const QuantizeOptions& options) {
    return error_of([&] { plan_quantize(model, options); });
  };
  EXPECT_NE(
      plan({.to = "Q8_0", .tensor_formats = {{"nothing*", "Q4_0"}}}).find("matches no tensor"),
      std::string::npos);
  EXPECT_NE(plan({.to = "Q8_0", .output_format = "Q7_0"}).find("--output"), std::string::npos);
  EXPECT_NE(plan({.to = "Q7_0"}).find("known: "), std::string::npos);
}

TEST(Quantize, WhatNeedsImportanceIsRefusedWithoutStatistics) {
  TinyCheckpoint checkpoint;
  for (const char* size : {"hidden_size", "intermediate_size"}) checkpoint.config[size] = 256;
  checkpoint.config["num_attention_heads"] = 4;
  checkpoint.fill();
  const Model model = open_model(checkpoint.write());
  const std::string error = error_of([&] { plan_quantize(model, {.to = "IQ2_XS"}); });
  EXPECT_NE(error.find("--imatrix"), std::string::npos) << error;
  EXPECT_EQ(error_of([&] { plan_quantize(model, {.to = "IQ2_XS", .weighted = true}); }), "");
  EXPECT_EQ(error_of([&] { plan_quantize(model, {.to = "IQ3_S"}); }), "");
}

TEST(Quantize, NamesWeightsThatAreNotFiniteOrTooLarge) {
  for (const float value : {NAN, -INFINITY, 1e6f}) {
    TinyCheckpoint checkpoint;
    checkpoint.tensors["model.layers.1.mlp.up_proj.weight"].values[49] = value;
    const auto out = checkpoint / "out.gguf";
    const std::string error = error_of([&] { quantize_to(checkpoint, {.to = "F16"}, out); });
    EXPECT_NE(error.find("'model.layers.1.mlp.up_proj.weight': row 1 column 1"), std::string::npos)
        << error;
    EXPECT_FALSE(std::filesystem::exists(out));
  }
}

TEST(Quantize, NoShardOfTheSourceIsReplaced) {
  TinyCheckpoint checkpoint;
  checkpoint.write();
  const auto link = checkpoint / "link.gguf";
  std::filesystem::create_symlink("model.safetensors", link);
  const std::string before = bytes_of(checkpoint / "model.safetensors");
  EXPECT_NE(error_of([&] { quantize_to(checkpoint, {.to = "F16"}, link); }).find("is the input"),
            std::string::npos);
  const auto shard = checkpoint / "model.safetensors";
  EXPECT_NE(error_of([&] { quantize_to(checkpoint, {.to = "F16"}, shard); }).find(".gguf"),
            std::string::npos);
  EXPECT_EQ(bytes_of(shard), before);
}

TEST(Quantize, WarnsWhereTheSourceIsAlreadyQuantized) {
  TinyCheckpoint checkpoint;
  widen(checkpoint);
  const auto first = checkpoint / "first.gguf";
  quantize_to(checkpoint, {.to = "Q5_0", .pure = true}, first);
  const Model model = open_model(first);
  const QuantizePlan plan = plan_quantize(model, {.to = "Q4_0", .pure = true});
  ASSERT_FALSE(plan.warnings.empty());
  EXPECT_NE(plan.warnings.back().find("already quantized: Q5_0"), std::string::npos);
  EXPECT_TRUE(plan_quantize(model, {.to = "Q5_0", .pure = true}).warnings.empty());
}

TEST(Quantize, TheSameFormatIsCopiedByteForByte) {
  TinyCheckpoint checkpoint;
  widen(checkpoint);
  const auto first = checkpoint / "first.gguf", second = checkpoint / "second.gguf";
  quantize_to(checkpoint, {.to = "Q4_1", .pure = true}, first);
  const Model model = open_model(first);
  ThreadPool pool(2);
  run_quantize(model, plan_quantize(model, {.to = "Q4_1", .pure = true}), {}, second, pool);
  EXPECT_EQ(bytes_of(first), bytes_of(second));
}

/// KL divergence of a file from the checkpoint it was made of, on random text.
double divergence(const TinyCheckpoint& checkpoint, const std::filesystem::path& file) {
  const Model model = open_model(file), reference = open_model(checkpoint / "");
  ThreadPool pool(2);
  std::string text;
  std::mt19937 random(5);
  for (int i = 0; i < 2000; ++i) text += static_cast<char>('a' + random() % 26);
  const PerplexityResult result =
      evaluate_text({.model = &model, .reference = &reference, .pool = &pool}, text,
                    {.context = 64, .every_position = true});
  return result.comparison->kl_mean.value;
}

class Calibrated : public testing::Test {
 protected:
  void SetUp() override {
    widen(checkpoint_);
    std::mt19937 random(9);
    std::ofstream text(checkpoint_ / "calibration.txt");
    for (int i = 0; i < 9000; ++i) text << static_cast<char>('a' + random() % 26);
  }

  void quantize(const std::filesystem::path& out, int threads, const char* to = "Q4_0") {
    const Model model = open_model(checkpoint_.write());
    const QuantizePlan plan =
        plan_quantize(model, {.to = to, .pure = true, .output_format = output_});
    ThreadPool pool(threads);
    const std::vector<std::filesystem::path> texts = {checkpoint_ / "calibration.txt"};
    CalibratedEncoder encoder(model, plan, take_samples(model, texts, {samples_, 128}), options_,
                              pool);
    QuantizeRun run;
    run.encoder = [&](const PlannedWeight& planned) { return encoder.encode(planned); };
    run_quantize(model, plan, run, out, pool);
    warnings_ = encoder.warnings();
  }

  void expect_the_same_behind_a_restored_layer() {
    samples_ = 8;
    quantize(checkpoint_ / "out.gguf", 1);
    const Model model = open_model(checkpoint_ / ""),
                written = open_model(checkpoint_ / "out.gguf");
    const RoundedBefore before = [&](const Weight& weight) {
      return RoundedWeight{.bytes = written.store.find(weight.gguf_name)->view.bytes};
    };
    const QuantizePlan plan =
        plan_quantize(model, {.to = "Q4_0", .pure = true, .output_format = output_});
    ThreadPool pool(1);
    const std::vector<std::filesystem::path> texts = {checkpoint_ / "calibration.txt"};
    CalibratedEncoder encoder(model, plan, take_samples(model, texts, {samples_, 128}), options_,
                              pool);
    encoder.restore_layer(0, before);
    for (const PlannedWeight& planned : plan.weights) {
      if (planned.weight->layer != 1) continue;
      const auto found = encoder.encode(planned).bytes;
      EXPECT_TRUE(found.empty() || std::ranges::equal(found, before(*planned.weight).bytes))
          << planned.weight->gguf_name;
    }
  }

  TinyCheckpoint checkpoint_;
  CalibrationOptions options_;
  std::string output_ = "Q8_0";
  int64_t samples_ = 32;
  std::vector<std::string> warnings_;
};

TEST_F(Calibrated, LosesLessThanRoundingToNearest) {
  const auto nearest = checkpoint_ / "nearest.gguf", calibrated = checkpoint_ / "calibrated.gguf";
  quantize_to(checkpoint_, {.to = "Q4_0", .pure = true, .output_format = "Q8_0"}, nearest);
  quantize(calibrated, 2);
  EXPECT_EQ(std::filesystem::file_size(nearest), std::filesystem::file_size(calibrated));
  EXPECT_LT(divergence(checkpoint_, calibrated), divergence(checkpoint_, nearest));
}

TEST_F(Calibrated, SaysWhatIsFedNothingButZeros) {
  quantize(checkpoint_ / "fed.gguf", 1);
  EXPECT_TRUE(warnings_.empty()) << warnings_.front();
  auto& gains = checkpoint_.tensors.at("model.layers.1.input_layernorm.weight").values;
  std::fill(gains.begin(), gains.end(), 0.0f);
  quantize(checkpoint_ / "zeros.gguf", 1);
  ASSERT_EQ(warnings_.size(), 2);  // where there is no attention, there is nothing to put out
  EXPECT_THAT(warnings_[0], testing::HasSubstr("blk.1.attn_q.weight: its inputs are always zero"));
  EXPECT_THAT(warnings_[1], testing::HasSubstr("blk.1.attn_output.weight"));
}

TEST_F(Calibrated, SameBytesForAnyThreadCount) {
  std::vector<std::string> files;
  for (const int threads : {1, 2, 7}) {
    quantize(checkpoint_ / "out.gguf", threads);
    files.push_back(bytes_of(checkpoint_ / "out.gguf"));
  }
  EXPECT_EQ(files[0], files[1]);
  EXPECT_EQ(files[0], files[2]);
}

std::vector<float> logits_of(const std::filesystem::path& path) {
  const Model model = open_model(path);
  ThreadPool pool(1);
  Engine engine(model, pool, {.pack = {.float_math = true}});
  KvCache cache(model.config, 16);
  const std::vector<Token> tokens = {3, 7, 1, 9, 4, 4, 8, 2};
  const auto hidden = engine.forward(tokens, cache, 8);
  std::vector<float> logits(8 * static_cast<size_t>(model.config.vocabulary));
  engine.logits(hidden, 8, logits.data());
  return logits;
}

TEST_F(Calibrated, ScalingColumnsChangesNoLogits) {
  const auto scaled = checkpoint_ / "scaled.gguf";
  options_.scaling = ColumnScaling::kBalanced;
  options_.scale_floats = true;
  output_ = "F32";
  samples_ = 8;
  quantize(scaled, 2, "F32");
  const Model before = open_model(checkpoint_ / ""), after = open_model(scaled);
  ThreadPool pool(1);
  for (const Role role :
       {Role::kAttentionNorm, Role::kQuery, Role::kValue, Role::kUp, Role::kDown}) {
    const Weight* other = after.find(role, 1);
    const double change =
        tensor_statistics(*before.find(role, 1), other, pool).relative_error.value_or(0);
    EXPECT_GT(change, 1e-6) << other->gguf_name << " was not scaled";
  }
  const std::vector<float> expected = logits_of(checkpoint_ / ""), found = logits_of(scaled);
  float largest = 0, difference = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    largest = std::max(largest, std::abs(expected[i]));
    difference = std::max(difference, std::abs(expected[i] - found[i]));
  }
  EXPECT_LT(difference, 0x1p-11f * largest) << "the cache keeps values as halves";
}

TEST_F(Calibrated, BiasesMakeUpForTheMeanOfWhatIsLost) {
  checkpoint_.config["model_type"] = "opt";  // behind ReLU inputs are far from 0 in the mean
  checkpoint_.fill_as_described();
  const auto plain = checkpoint_ / "plain.gguf", corrected = checkpoint_ / "corrected.gguf";
  samples_ = 8;
  quantize(plain, 2);
  options_.correct_biases = true;
  quantize(corrected, 2);
  EXPECT_EQ(std::filesystem::file_size(plain), std::filesystem::file_size(corrected));
  EXPECT_LT(divergence(checkpoint_, corrected), divergence(checkpoint_, plain));
}

TEST_F(Calibrated, WhatIsAimedAtIsWhatEachDesignAdds) {
  samples_ = 8;
  for (const char* config :
       {R"({"model_type": "llama"})", R"({"model_type": "gpt2"})", R"({"model_type": "opt"})",
        R"({"model_type": "granite", "residual_multiplier": 0.3})", R"({"model_type": "qwen2"})",
        R"({"model_type": "qwen3"})", R"({"model_type": "falcon"})", R"({"model_type": "gemma2"})",
        R"({"model_type": "mixtral", "num_local_experts": 5, "num_experts_per_tok": 2})"}) {
    checkpoint_.config.update(parse_json(config, "test"));
    checkpoint_.fill_as_described();
    std::vector<double> losses;
    for (const bool follow : {false, true}) {
      options_.streams.follow_outputs = follow;
      quantize(checkpoint_ / "out.gguf", 2, "Q8_0");
      losses.push_back(divergence(checkpoint_, checkpoint_ / "out.gguf"));
    }
    EXPECT_LT(losses[1], 1.5 * losses[0] + 1e-6) << config;
  }
}

TEST_F(Calibrated, RestoredLayersLeadToTheSameOnes) {
  options_.streams.follow_outputs = true;
  expect_the_same_behind_a_restored_layer();
}

TEST_F(Calibrated, RestoredBiasesLeadToTheSameLayers) {
  checkpoint_.config["model_type"] = "opt";
  checkpoint_.fill_as_described();
  options_.correct_biases = true;
  expect_the_same_behind_a_restored_layer();
}

TEST_F(Calibrated, ActivationsThatAreNotFiniteAreNamed) {
  samples_ = 8;
  checkpoint_.tensors["model.layers.1.post_attention_layernorm.weight"].values[5] = 3e38f;
  const std::string error = error_of([&] { quantize(checkpoint_ / "out.gguf", 2); });
  EXPECT_NE(error.find("blk.1.ffn_gate.weight is fed in sample 0 is not finite"), std::string::npos)
      << error;
}

TEST_F(Calibrated, SameBytesForAnyThreadCountWithEveryOption) {
  options_.streams.follow_outputs = true;
  samples_ = 8;
  for (const ColumnScaling scaling : {ColumnScaling::kBalanced, ColumnScaling::kAwq}) {
    options_.scaling = scaling;
    quantize(checkpoint_ / "one.gguf", 1, "Q5_0");
    quantize(checkpoint_ / "seven.gguf", 7, "Q5_0");
    EXPECT_EQ(bytes_of(checkpoint_ / "one.gguf"), bytes_of(checkpoint_ / "seven.gguf"));
  }
}

TEST(Quantize, ImportanceWeighsErrorsAndForeignFilesAreRefused) {
  TinyCheckpoint checkpoint;
  widen(checkpoint);
  const Model model = open_model(checkpoint.write());
  const QuantizePlan plan = plan_quantize(model, {.to = "Q4_0", .pure = true});
  ThreadPool pool(2);
  run_quantize(model, plan, {}, checkpoint / "plain.gguf", pool);
  Importance importance;
  importance.entries["blk.0.attn_q.weight"] = {std::vector<float>(64, 2.0f), {1.0f}};
  importance.entries["blk.0.attn_q.weight"].sums[3] = 1000;
  QuantizeRun run;
  run.importance = &importance;
  run_quantize(model, plan, run, checkpoint / "weighed.gguf", pool);
  EXPECT_NE(bytes_of(checkpoint / "plain.gguf"), bytes_of(checkpoint / "weighed.gguf"));
  importance.entries["blk.0.attn_q.weight"].sums.resize(32);
  const std::string error =
      error_of([&] { run_quantize(model, plan, run, checkpoint / "other.gguf", pool); });
  EXPECT_NE(error.find("gathered from another model"), std::string::npos) << error;
}

TEST_F(Calibrated, TooLittleTextIsRefused) {
  std::ofstream(checkpoint_ / "short.txt") << "a few words";
  const Model model = open_model(checkpoint_.write());
  const std::vector<std::filesystem::path> texts = {checkpoint_ / "short.txt"};
  EXPECT_NE(error_of([&] { take_samples(model, texts, {}); }).find("at least 512"),
            std::string::npos);
}

}  // namespace
}  // namespace fewbits
