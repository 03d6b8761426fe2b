#include "engine/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <set>

#include "base/error.h"

namespace fewbits {
namespace {

constexpr int kDraws = 20000;

/// How often each token comes up.
std::map<Token, double> shares(SamplerOptions options, const std::vector<float>& logits) {
  Sampler sampler(options);
  std::map<Token, double> counts;
  for (int i = 0; i < kDraws; ++i) counts[sampler.sample(logits, {})] += 1.0 / kDraws;
  return counts;
}

// Probabilities 0.1, 0.4, 0.2, 0.3.
const std::vector<float> kLogits = {std::log(1.f), std::log(4.f), std::log(2.f), std::log(3.f)};

TEST(Random, GivesThePublishedNumbers) {
  Random random(1234567);  // the reference implementation's first numbers for this seed
  EXPECT_EQ(random.next(), 6457827717110365317u);
  EXPECT_EQ(random.next(), 3203168211198807973u);
  EXPECT_EQ(random.next(), 9817491932198370423u);
}

TEST(Sampler, IsGreedyAtTemperatureZeroAndTakesTheLowestOfEquals) {
  Sampler sampler({});
  EXPECT_EQ(sampler.sample(std::vector<float>{1, 3, 2, 3}, {}), 1);
}

TEST(Sampler, DrawsByProbability) {
  const auto all = shares({.temperature = 1}, kLogits);
  for (const auto& [token, share] : std::map<Token, double>{{0, .1}, {1, .4}, {2, .2}, {3, .3}}) {
    EXPECT_NEAR(all.at(token), share, 0.015);
  }
}

TEST(Sampler, SharpensWithLowTemperature) {
  EXPECT_NEAR(shares({.temperature = 0.5}, kLogits).at(1), 16.0 / 30, 0.015);
}

TEST(Sampler, IsNearlyGreedyAtATinyTemperature) {
  EXPECT_NEAR(shares({.temperature = 1e-300}, kLogits).at(1), 1, 1e-9);
}

TEST(Sampler, ReachesEveryTokenOfALargeVocabulary) {
  const std::vector<float> equal(2000, 0.5f);
  std::set<Token> seen;
  Sampler sampler({.temperature = 1});
  for (int i = 0; i < 20000; ++i) seen.insert(sampler.sample(equal, {}));
  EXPECT_GT(seen.size(), 1990u);  // e^-10 of them are missed
}

TEST(Sampler, KeepsTheLikeliest) {
  const auto keys = [](const SamplerOptions& options) {
    std::vector<Token> tokens;
    for (const auto& [token, share] : shares(options, kLogits)) tokens.push_back(token);
    return tokens;
  };
  using testing::ElementsAre;
  EXPECT_THAT(keys({.top_k = 2, .temperature = 1}), ElementsAre(1, 3));
  EXPECT_THAT(keys({.top_k = 9, .temperature = 1}), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(keys({.top_p = 0.65, .temperature = 1}), ElementsAre(1, 3));
  EXPECT_THAT(keys({.top_p = 0.75, .temperature = 1}), ElementsAre(1, 2, 3));
  EXPECT_THAT(keys({.top_p = 0, .temperature = 1}), ElementsAre(1));
  EXPECT_THAT(keys({.min_p = 0.6, .temperature = 1}), ElementsAre(1, 3));
  EXPECT_THAT(keys({.min_p = 1, .temperature = 1}), ElementsAre(1));
  // Of the two that top_k keeps, the first alone has 4/7 > 0.5.
  EXPECT_THAT(keys({.top_k = 2, .top_p = 0.5, .temperature = 1}), ElementsAre(1));
}

TEST(Sampler, PenalizesWhatTheWindowHolds) {
  Sampler sampler({.repetition_penalty = 2, .repetition_window = 2});
  const std::vector<float> logits = {3, 2, -1, -3};
  EXPECT_EQ(sampler.sample(logits, std::vector<Token>{0, 0}), 1);
  EXPECT_EQ(sampler.sample(logits, std::vector<Token>{0, 2, 2}), 0);
  EXPECT_EQ(sampler.sample(std::vector<float>{-2, -3}, std::vector<Token>{0}), 1);
  Sampler all({.repetition_penalty = 2, .repetition_window = -1});
  EXPECT_EQ(all.sample(logits, std::vector<Token>{0, 2, 2}), 1);
}

TEST(Sampler, RepeatsItselfWithTheSameSeedOnly) {
  const auto draw = [](uint64_t seed) {
    Sampler sampler({.temperature = 1, .seed = seed});
    std::vector<Token> tokens;
    for (int i = 0; i < 50; ++i) tokens.push_back(sampler.sample(kLogits, {}));
    return tokens;
  };
  EXPECT_EQ(draw(5), draw(5));
  EXPECT_NE(draw(5), draw(6));
}

TEST(Sampler, RefusesWhatMakesNoSense) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THROW(Sampler({}).sample(std::vector<float>{1, kNan}, {}), Error);
  EXPECT_THROW(Sampler({.top_p = 1.5}), Error);
  EXPECT_THROW(Sampler({.temperature = -1}), Error);
  EXPECT_THROW(Sampler({.temperature = std::nan("")}), Error);
  EXPECT_THROW(Sampler({.repetition_penalty = 0}), Error);
  EXPECT_THROW(Sampler({.top_k = -1}), Error);
}

}  // namespace
}  // namespace fewbits
