#include "pipeline/calibrated_experts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <string>

#include "model/tiny_checkpoint.h"
#include "pipeline/calibrated_encoder.h"

namespace fewbits {
namespace {

struct Mixture {
  Mixture() {
    checkpoint.config.update({{"model_type", "mixtral"},
                              {"num_local_experts", 4},
                              {"num_experts_per_tok", 2},
                              {"hidden_size", 64},
                              {"num_attention_heads", 4},
                              {"intermediate_size", 96}});
    checkpoint.fill_as_described();
    checkpoint.write();
  }

  QuantizeResult quantize(int64_t samples, int threads) {
    const Model model = open_model(checkpoint / "");
    const QuantizePlan plan = plan_quantize(model, {.to = "Q4_0", .pure = true});
    ThreadPool pool(threads);
    std::vector<std::vector<Token>> tokens(static_cast<size_t>(samples));
    for (size_t i = 0; i < tokens.size(); ++i) {
      for (size_t j = 0; j < 32; ++j)
        tokens[i].push_back(static_cast<Token>((i * 7 + j * j) % 200));
    }
    CalibratedEncoder encoder(model, plan, tokens, {}, pool);
    QuantizeRun run;
    run.encoder = [&](const PlannedWeight& planned) { return encoder.encode(planned); };
    const QuantizeResult result = run_quantize(model, plan, run, out(), pool);
    warnings = encoder.warnings();
    return result;
  }

  std::filesystem::path out() const { return checkpoint / "out.gguf"; }

  std::string bytes() const {
    std::ifstream file(out(), std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  TinyCheckpoint checkpoint;
  std::vector<std::string> warnings;
};

TEST(CalibratedExperts, EachIsFittedToItsOwnTokens) {
  Mixture mixture;
  const QuantizeResult fitted = mixture.quantize(24, 2);
  EXPECT_TRUE(mixture.warnings.empty()) << mixture.warnings.front();
  const Model model = open_model(mixture.checkpoint / "");
  ThreadPool pool(2);
  const QuantizeResult nearest = run_quantize(
      model, plan_quantize(model, {.to = "Q4_0", .pure = true}), {}, mixture.out(), pool);
  for (size_t i = 0; i < fitted.tensors.size(); ++i) {
    if (fitted.tensors[i].name.find("_exps") == std::string::npos) continue;
    // What is fitted to inputs is farther from the weights than what is nearest to them.
    EXPECT_GT(fitted.tensors[i].relative_error, nearest.tensors[i].relative_error);
    EXPECT_LT(fitted.tensors[i].relative_error, 4 * nearest.tensors[i].relative_error);
  }
}

TEST(CalibratedExperts, SameBytesForAnyThreadCount) {
  Mixture mixture;
  mixture.quantize(8, 1);
  const std::string one = mixture.bytes();
  for (const int threads : {2, 7}) {
    mixture.quantize(8, threads);
    EXPECT_EQ(mixture.bytes(), one);
  }
}

TEST(CalibratedExperts, ThoseThatNobodyAskedAreNamed) {
  Mixture mixture;
  mixture.quantize(1, 2);
  ASSERT_FALSE(mixture.warnings.empty());
  EXPECT_THAT(mixture.warnings.front(), testing::HasSubstr("blk.0.ffn_gate_exps.weight"));
  EXPECT_THAT(mixture.warnings.front(), testing::HasSubstr("too few tokens"));
}

}  // namespace
}  // namespace fewbits
