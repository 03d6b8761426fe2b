#include "evaluate/evaluate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "base/error.h"
#include "base/source_dir.h"

namespace fewbits {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

const std::filesystem::path kData = source_dir() / "../shared/data";

/// stories260K: a real model of a quarter million parameters, which begins texts with BOS.
class Evaluate : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(kData)) GTEST_SKIP() << kData << " is missing";
    model.emplace(open_model(kData / "stories260k-f32"));
    std::ifstream file(kData / "text-misc" / "tinystories_sample.txt", std::ios::binary);
    std::ostringstream content;
    content << file.rdbuf();
    text = content.str();
  }

  std::optional<Model> model;
  std::string text;
  ThreadPool pool{2};
};

TEST_F(Evaluate, PerplexityIsLlamaCpps) {
  // Stock llama.cpp on the same model as F32 GGUF: tests/interop/perplexity.py.
  const PerplexityResult result =
      evaluate_text({.model = &*model, .pool = &pool}, text, {.context = 128, .windows = 6});
  EXPECT_EQ(result.tokens, 6 * 63);
  EXPECT_NEAR(result.perplexity.value, 6.8445, 0.001);
}

TEST_F(Evaluate, AgainstItselfNothingMoved) {
  const Evaluation evaluation{.model = &*model, .reference = &*model, .pool = &pool};
  const Json facts = facts_of(evaluate_text(evaluation, text, {.context = 64}));
  EXPECT_EQ(facts["kl_mean"], 0);
  EXPECT_EQ(facts["top1_agreement"], 1);
  EXPECT_EQ(facts["perplexity"], facts["reference_perplexity"]);
}

TEST_F(Evaluate, SameBitsForAnyThreadCount) {
  const auto with_threads = [&](int threads) {
    ThreadPool crew(threads);
    return facts_of(evaluate_text({.model = &*model, .pool = &crew}, text, {.context = 64})).dump();
  };
  const std::string one = with_threads(1);
  EXPECT_EQ(one, with_threads(2));
  EXPECT_EQ(one, with_threads(7));
}

TEST_F(Evaluate, PaperWindowsHaveNoBosOfTheirOwn) {
  const Evaluation evaluation{.model = &*model, .pool = &pool};
  const PerplexityResult paper =
      evaluate_text(evaluation, text, {.protocol = Protocol::kPaper, .context = 128});
  const PerplexityResult llama =
      evaluate_text(evaluation, text, {.context = 128, .every_position = true});
  EXPECT_EQ(paper.tokens, llama.tokens);
  EXPECT_NE(paper.perplexity.value, llama.perplexity.value);
}

TEST_F(Evaluate, RefusesTextsThatAreNone) {
  const Evaluation evaluation{.model = &*model, .pool = &pool};
  EXPECT_THAT([&] { evaluate_text(evaluation, "", {}); },
              ThrowsMessage<Error>(HasSubstr("the text has 1 tokens")));
  EXPECT_THAT([&] { evaluate_text(evaluation, "Once upon a time", {}); },
              ThrowsMessage<Error>(HasSubstr("needs 512")));
  EXPECT_THAT([&] { evaluate_text(evaluation, std::string(5000, '\0'), {}); },
              ThrowsMessage<Error>(HasSubstr("binary (a zero byte at offset 0)")));
  EXPECT_THAT(
      [&] { evaluate_text(evaluation, text + text + text + text, {.context = 1024}); },
      ThrowsMessage<Error>(HasSubstr("longer than the 512 that the model was trained for")));
}

TEST_F(Evaluate, AsksTheModelAndTheReference) {
  const Task task = parse_task(
      "{\"query\": \"Once upon a\", \"choices\": [\"time\", \"xylophone\"], \"gold\": 0}\n"
      "{\"query\": \"Once upon a time, there was a little\", \"choices\": [\"girl\", \"qux\"], "
      "\"gold\": 1}\n",
      "test");
  std::vector<int64_t> seen;
  const Evaluation evaluation{
      .model = &*model,
      .reference = &*model,
      .pool = &pool,
      .progress = [&](int64_t done, int64_t total) { seen.push_back(10 * done + total); }};
  const TaskResult result = evaluate_task(evaluation, task);
  EXPECT_EQ(result.accuracy.value, 0.5);
  EXPECT_EQ(result.comparison->reference_accuracy.value, 0.5);
  EXPECT_EQ(result.comparison->same_answers.value, 1);
  EXPECT_EQ(seen, (std::vector<int64_t>{14, 24, 34, 44}));
}

TEST(Facts, KeysThatPeopleScriptAgainst) {
  PerplexityResult result;
  result.comparison.emplace();
  const Json facts = facts_of(result);
  for (const char* key : {"perplexity", "perplexity_low", "perplexity_high", "tokens", "kl_mean",
                          "kl_low", "kl_high", "kl_p99", "kl_p999", "kl_max", "top1_agreement"}) {
    EXPECT_TRUE(facts.contains(key)) << key;
  }
  EXPECT_EQ(Json::parse(facts.dump())["kl_low"], nullptr);
}

}  // namespace
}  // namespace fewbits
