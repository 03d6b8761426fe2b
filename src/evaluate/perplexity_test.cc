#include "evaluate/perplexity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>

#include "base/error.h"
#include "evaluate/fake_scorer_test.h"

namespace fewbits {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

constexpr int64_t kVocabulary = 50;

/// 0 1 2 ... 49 0 1 ...
std::vector<Token> counting_text(size_t count) {
  std::vector<Token> tokens(count);
  for (size_t i = 0; i < count; ++i) tokens[i] = static_cast<Token>(i % kVocabulary);
  return tokens;
}

void know_nothing(std::span<const Token>, std::span<float>) {}

/// Expects the last token plus one with probability 1/2 and anything else equally.
void expect_the_next(std::span<const Token> read, std::span<float> logits) {
  logits[static_cast<size_t>(read.back() + 1) % logits.size()] =
      std::log(static_cast<float>(kVocabulary - 1));
}

/// As sure of the next token as its number says: windows differ.
void expect_more_and_more(std::span<const Token> read, std::span<float> logits) {
  const auto next = static_cast<size_t>(read.back() + 1) % logits.size();
  logits[next] = 0.03f * static_cast<float>(next) + 0.001f * static_cast<float>(read.size());
}

class Perplexity : public ::testing::Test {
 protected:
  ThreadPool pool{2};

  PerplexityResult score(FakeScorer::Rule rule, const std::vector<Token>& tokens,
                         PerplexityOptions options) {
    FakeScorer model(kVocabulary, std::move(rule));
    return score_text(model, nullptr, tokens, options, pool);
  }

  PerplexityResult compare(FakeScorer::Rule rule, FakeScorer::Rule reference_rule, size_t tokens) {
    FakeScorer model(kVocabulary, std::move(rule));
    FakeScorer reference(kVocabulary, std::move(reference_rule));
    return score_text(model, &reference, counting_text(tokens), {.context = 64}, pool);
  }
};

TEST_F(Perplexity, PlansOfBothProtocols) {
  const WindowPlan llama = plan_windows(1500, {});
  EXPECT_EQ(llama.context, 512);
  EXPECT_EQ(llama.windows, 2);
  EXPECT_EQ(llama.first_scored, 256);
  EXPECT_EQ(llama.scored_per_window(), 255);

  const WindowPlan paper = plan_windows(287'644, {.protocol = Protocol::kPaper});
  EXPECT_EQ(paper.windows, 140);
  EXPECT_EQ(paper.scored_per_window(), 2047);

  EXPECT_EQ(plan_windows(1500, {.windows = 2, .every_position = true}).scored(), 1022);
  EXPECT_EQ(plan_windows(1500, {.context = 100, .windows = 3}).scored(), 3 * 49);
  EXPECT_EQ(plan_windows(1500, {.context = 101}).first_scored, 50);
}

TEST_F(Perplexity, UniformModelScoresItsVocabulary) {
  const PerplexityResult result = score(know_nothing, counting_text(3 * 512 + 100), {});
  EXPECT_EQ(result.tokens, 3 * 255);
  EXPECT_NEAR(result.perplexity.value, kVocabulary, 1e-5);
  EXPECT_NEAR(result.perplexity.low, kVocabulary, 1e-5);
  EXPECT_NEAR(result.perplexity.high, kVocabulary, 1e-5);
  EXPECT_FALSE(result.comparison.has_value());
}

TEST_F(Perplexity, TokensAreScoredAgainstTheirSuccessors) {
  EXPECT_NEAR(score(expect_the_next, counting_text(512), {}).perplexity.value, 2, 1e-6);
  const PerplexityOptions paper{.protocol = Protocol::kPaper};
  EXPECT_NEAR(score(expect_the_next, counting_text(2048), paper).perplexity.value, 2, 1e-6);
}

TEST_F(Perplexity, LlamaWindowsBeginWithBos) {
  FakeScorer model(kVocabulary, know_nothing);
  const std::vector<Token> text = counting_text(64);
  score_text(model, nullptr, text, {.context = 32, .bos = 7}, pool);
  ASSERT_EQ(model.sequences.size(), 2u);
  for (size_t window = 0; window < 2; ++window) {
    std::vector<Token> expected(text.begin() + 32 * static_cast<std::ptrdiff_t>(window),
                                text.begin() + 32 * static_cast<std::ptrdiff_t>(window) + 31);
    expected[0] = 7;
    EXPECT_EQ(model.sequences[window], expected);
  }
}

TEST_F(Perplexity, PaperWindowsAreTheTextAsItIs) {
  FakeScorer model(kVocabulary, know_nothing);
  const std::vector<Token> text = counting_text(64);
  score_text(model, nullptr, text, {.protocol = Protocol::kPaper, .context = 32, .bos = 7}, pool);
  EXPECT_EQ(model.sequences[1], std::vector<Token>(text.begin() + 32, text.begin() + 63));
}

TEST_F(Perplexity, OnlyTheSecondHalfCounts) {
  // A rule that is right only where at least 256 tokens were read.
  const auto rule = [](std::span<const Token> read, std::span<float> logits) {
    if (read.size() > 256) expect_the_next(read, logits);
  };
  EXPECT_NEAR(score(rule, counting_text(1024), {}).perplexity.value, 2, 1e-6);
  EXPECT_GT(score(rule, counting_text(1024), {.every_position = true}).perplexity.value, 9);
}

TEST_F(Perplexity, IntervalIsFromWindowMeans) {
  // Windows of 25 begin at token 0 or 25 in turn: two kinds of window.
  const PerplexityResult result = score(expect_more_and_more, counting_text(100),
                                        {.protocol = Protocol::kPaper, .context = 25});
  EXPECT_LT(result.perplexity.low, result.perplexity.value);
  EXPECT_GT(result.perplexity.high, result.perplexity.value);
  const PerplexityResult one = score(expect_more_and_more, counting_text(100), {.context = 100});
  EXPECT_TRUE(std::isnan(one.perplexity.low));
}

TEST_F(Perplexity, ModelAgainstItselfHasMovedNothing) {
  const PerplexityResult result = compare(expect_more_and_more, expect_more_and_more, 640);
  ASSERT_TRUE(result.comparison.has_value());
  const Comparison& comparison = *result.comparison;
  EXPECT_EQ(comparison.kl_mean.value, 0);
  EXPECT_EQ(comparison.kl_max, 0);
  EXPECT_EQ(comparison.top1_agreement.value, 1);
  EXPECT_LT(comparison.top1_agreement.low, 1);
  EXPECT_EQ(comparison.perplexity_ratio.value, 1);
  EXPECT_EQ(comparison.perplexity_difference.value, 0);
  EXPECT_EQ(comparison.perplexity_difference.low, 0);
  EXPECT_EQ(comparison.probability_rms, 0);
  EXPECT_EQ(comparison.reference_perplexity.value, result.perplexity.value);
}

TEST_F(Perplexity, KnownDivergence) {
  // Reference: 1/2 on the right token, 1/98 on each other. Model: 1/50 on all.
  const PerplexityResult result = compare(know_nothing, expect_the_next, 640);
  const Comparison& comparison = *result.comparison;
  const double divergence = 0.5 * std::log(0.5 * 50) + 0.5 * std::log(50.0 / 98);
  EXPECT_NEAR(comparison.kl_mean.value, divergence, 1e-6);
  EXPECT_NEAR(comparison.kl_median, divergence, 1e-6);
  EXPECT_NEAR(comparison.kl_max, divergence, 1e-6);
  EXPECT_NEAR(comparison.reference_perplexity.value, 2, 1e-6);
  EXPECT_NEAR(comparison.perplexity_ratio.value, 25, 1e-4);
  EXPECT_NEAR(comparison.perplexity_difference.value, 48, 1e-4);
  EXPECT_NEAR(comparison.probability_rms, 0.48, 1e-6);
  // Token 0 is first of the equals: right only where 0 comes next.
  EXPECT_NEAR(comparison.top1_agreement.value, 1.0 / 50, 0.01);
}

TEST_F(Perplexity, PairingNarrowsTheInterval) {
  const auto slightly_worse = [](std::span<const Token> read, std::span<float> logits) {
    expect_more_and_more(read, logits);
    for (float& logit : logits) logit *= 0.97f;
  };
  const PerplexityResult result = compare(slightly_worse, expect_more_and_more, 6400);
  const Estimate& difference = result.comparison->perplexity_difference;
  EXPECT_GT(difference.low, 0);
  EXPECT_LT(difference.high - difference.low,
            0.1 * (result.perplexity.high - result.perplexity.low));
}

TEST_F(Perplexity, SameBitsForAnyThreadCount) {
  const auto with_threads = [](int threads) {
    ThreadPool crew(threads);
    FakeScorer model(kVocabulary, know_nothing);
    FakeScorer reference(kVocabulary, expect_more_and_more);
    return *score_text(model, &reference, counting_text(1000), {.context = 64}, crew).comparison;
  };
  const Comparison one = with_threads(1);
  for (const int threads : {2, 7}) {
    const Comparison many = with_threads(threads);
    EXPECT_EQ(one.kl_mean.value, many.kl_mean.value);
    EXPECT_EQ(one.kl_mean.low, many.kl_mean.low);
    EXPECT_EQ(one.perplexity_ratio.high, many.perplexity_ratio.high);
  }
}

TEST_F(Perplexity, LargeVocabulariesAreScoredInPieces) {
  // 8 million floats at a time: 41 rows of this vocabulary, so 255 rows take seven pieces.
  FakeScorer model(200'000, know_nothing);
  const PerplexityResult result = score_text(model, nullptr, counting_text(512), {}, pool);
  EXPECT_NEAR(result.perplexity.value, 200'000, 0.1);
}

TEST_F(Perplexity, ReportsProgress) {
  std::vector<std::pair<int64_t, int64_t>> seen;
  FakeScorer model(kVocabulary, know_nothing);
  PerplexityOptions options{.context = 10, .windows = 3};
  options.progress = [&](int64_t done, int64_t total) { seen.emplace_back(done, total); };
  score_text(model, nullptr, counting_text(40), options, pool);
  EXPECT_EQ(seen, (std::vector<std::pair<int64_t, int64_t>>{{1, 3}, {2, 3}, {3, 3}}));
}

TEST_F(Perplexity, SaysHowManyTokensAreMissing) {
  EXPECT_THAT([] { plan_windows(511, {}); },
              ThrowsMessage<Error>(HasSubstr("511 tokens, but one window of the llama "
                                             "protocol needs 512")));
  EXPECT_THAT([] { plan_windows(0, {.protocol = Protocol::kPaper}); },
              ThrowsMessage<Error>(HasSubstr("needs 2048")));
  EXPECT_THROW(plan_windows(1000, {.context = 3}), Error);
  EXPECT_THROW(plan_windows(1000, {.context = -5}), Error);
  EXPECT_THROW(plan_windows(1000, {.windows = -1}), Error);
}

TEST_F(Perplexity, NamesTheWindowWhoseLogitsAreNotFinite) {
  const auto broken = [](std::span<const Token> read, std::span<float> logits) {
    if (read.size() == 300) logits[3] = std::numeric_limits<float>::quiet_NaN();
  };
  EXPECT_THAT([&] { score(broken, counting_text(1024), {}); },
              ThrowsMessage<Error>(HasSubstr("window 0, position 299: the model")));
  EXPECT_THAT(
      [&] {
        compare(
            know_nothing, [](auto, std::span<float> logits) { logits[0] = INFINITY; }, 640);
      },
      ThrowsMessage<Error>(HasSubstr("position 32: the reference")));
}

TEST_F(Perplexity, RefusesWhatDoesNotFit) {
  FakeScorer model(kVocabulary, know_nothing, 100);
  FakeScorer other(kVocabulary + 1, know_nothing);
  const std::vector<Token> text = counting_text(512);
  EXPECT_THAT([&] { score_text(model, nullptr, text, {}, pool); },
              ThrowsMessage<Error>(HasSubstr("longer than the 100")));
  EXPECT_THAT([&] { score_text(model, &other, text, {.context = 64}, pool); },
              ThrowsMessage<Error>(HasSubstr("knows 50 tokens, the reference 51")));
  const std::vector<Token> wrong(512, 50);
  EXPECT_THROW(score_text(model, nullptr, wrong, {.context = 64}, pool), Error);
}

TEST_F(Perplexity, ProtocolsHaveNames) {
  EXPECT_EQ(protocol_named("llama"), Protocol::kLlama);
  EXPECT_EQ(protocol_name(Protocol::kPaper), "paper");
  EXPECT_THAT([] { protocol_named("lm-eval"); },
              ThrowsMessage<Error>(HasSubstr("known: llama, paper")));
}

}  // namespace
}  // namespace fewbits
