#include "evaluate/logit_rows.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace fewbits {
namespace {

std::vector<float> random_logits(size_t count, float spread, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0, spread);
  std::vector<float> logits(count);
  for (float& logit : logits) logit = normal(random);
  return logits;
}

/// The obvious way, in long double.
long double plain_log_sum_exp(const std::vector<float>& logits) {
  long double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<long double>(logit));
  return std::log(sum);
}

double plain_divergence(const std::vector<float>& p, const std::vector<float>& q) {
  const long double p_sum = plain_log_sum_exp(p);
  const long double q_sum = plain_log_sum_exp(q);
  long double divergence = 0;
  for (size_t i = 0; i < p.size(); ++i) {
    const long double log_p = p[i] - p_sum;
    divergence += std::exp(log_p) * (log_p - (q[i] - q_sum));
  }
  return static_cast<double>(divergence);
}

TEST(LogitRows, KnownDistributions) {
  // Uniform over 1,000: every token costs ln 1000.
  const std::vector<float> uniform(1000, 3.0f);
  EXPECT_NEAR(loss_of(summarize(uniform), uniform, 17), std::log(1000.0), 1e-7);
  // Probabilities 1/4 and 3/4.
  const std::vector<float> pair{0.0f, std::log(3.0f)};
  EXPECT_NEAR(loss_of(summarize(pair), pair, 0), std::log(4.0), 1e-6);
  EXPECT_NEAR(loss_of(summarize(pair), pair, 1), std::log(4.0 / 3.0), 1e-6);
  // KL((1/4, 3/4) || (1/2, 1/2)) = ln 2 - H(1/4)
  const std::vector<float> even{0.0f, 0.0f};
  EXPECT_NEAR(compare(pair, even).divergence, 0.25 * std::log(0.5) + 0.75 * std::log(1.5), 1e-6);
  EXPECT_NEAR(compare(even, pair).divergence, 0.5 * std::log(2.0) + 0.5 * std::log(2.0 / 3.0),
              1e-6);
}

TEST(LogitRows, LogSumExpIsTheObviousOne) {
  for (const size_t count : {1u, 2u, 7u, 8u, 9u, 511u, 512u, 513u, 1000u, 49152u}) {
    const std::vector<float> logits = random_logits(count, 5, count);
    const auto expected = static_cast<double>(plain_log_sum_exp(logits));
    EXPECT_NEAR(summarize(logits).log_sum_exp, expected, 2e-7) << count;
  }
}

TEST(LogitRows, LargeLogitsDoNotOverflow) {
  const std::vector<float> logits{3e38f, -3e38f, 0.0f};
  const LogitRow row = summarize(logits);
  EXPECT_TRUE(row.finite);
  EXPECT_EQ(row.top, 0);
  EXPECT_DOUBLE_EQ(loss_of(row, logits, 0), 0);
}

TEST(LogitRows, DivergenceKeepsItsDigitsBetweenCloseModels) {
  for (const float noise : {1.0f, 0.1f, 0.01f, 0.001f}) {
    const std::vector<float> p = random_logits(49152, 3, 1);
    std::vector<float> q = random_logits(49152, noise, 2);
    for (size_t i = 0; i < q.size(); ++i) q[i] += p[i];
    const double expected = plain_divergence(p, q);
    EXPECT_NEAR(compare(p, q).divergence, expected, 1e-5 * expected + 5e-9) << noise;
  }
}

TEST(LogitRows, DivergenceFromItselfIsExactlyZero) {
  const std::vector<float> logits = random_logits(5000, 4, 3);
  EXPECT_EQ(compare(logits, logits).divergence, 0);
}

TEST(LogitRows, DivergenceIgnoresAnOffset) {
  const std::vector<float> p = random_logits(777, 2, 4);
  std::vector<float> q = p;
  for (float& logit : q) logit += 8.0f;
  EXPECT_NEAR(compare(p, q).divergence, 0, 1e-6);
}

TEST(LogitRows, CompareAgreesWithSummarize) {
  const std::vector<float> p = random_logits(3001, 2, 5);
  const std::vector<float> q = random_logits(3001, 2, 6);
  const LogitPair pair = compare(p, q);
  EXPECT_NEAR(pair.reference.log_sum_exp, summarize(p).log_sum_exp, 1e-12);
  EXPECT_EQ(pair.model.log_sum_exp, summarize(q).log_sum_exp);
  EXPECT_EQ(pair.reference.top, summarize(p).top);
}

TEST(LogitRows, TopIsTheFirstOfTheLargest) {
  for (const size_t place : {0u, 5u, 511u, 512u, 1500u, 1999u}) {
    std::vector<float> logits(2000, -1.0f);
    logits[place] = 4;
    logits.back() = 4;
    EXPECT_EQ(summarize(logits).top, static_cast<int64_t>(place));
    EXPECT_EQ(summarize(logits).max, 4);
  }
}

TEST(LogitRows, SeesEveryNonFiniteValue) {
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
        -std::numeric_limits<float>::infinity()}) {
    for (const size_t place : {0u, 100u, 999u}) {
      std::vector<float> logits(1000, 0.5f);
      logits[place] = bad;
      EXPECT_FALSE(summarize(logits).finite);
      EXPECT_FALSE(compare(logits, std::vector<float>(1000, 0.5f)).reference.finite);
      EXPECT_FALSE(compare(std::vector<float>(1000, 0.5f), logits).model.finite);
    }
  }
}

}  // namespace
}  // namespace fewbits
