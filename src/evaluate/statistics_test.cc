#include "evaluate/statistics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <random>
#include <vector>

namespace fewbits {
namespace {

TEST(Statistics, StudentFactorsAreTheTables) {
  EXPECT_NEAR(student_factor(1), 12.7062, 1e-4);
  EXPECT_NEAR(student_factor(2), 4.30265, 1e-5);
  EXPECT_NEAR(student_factor(3), 3.18245, 4e-3);
  EXPECT_NEAR(student_factor(5), 2.57058, 5e-4);
  EXPECT_NEAR(student_factor(11), 2.20099, 1e-5);
  EXPECT_NEAR(student_factor(59), 2.00100, 1e-5);
  EXPECT_NEAR(student_factor(1'000'000), 1.95997, 1e-5);
}

TEST(Statistics, MeanOfFourByHand) {
  // 1 2 3 6: mean 3, variance 14/3, standard error sqrt(14/12) = 1.08012; three degrees of freedom.
  const Estimate mean = estimate_mean(std::vector<double>{1, 2, 3, 6});
  EXPECT_DOUBLE_EQ(mean.value, 3);
  EXPECT_NEAR(mean.high - 3, 3.18245 * 1.08012, 5e-3);
  EXPECT_NEAR(3 - mean.low, mean.high - 3, 1e-12);
}

TEST(Statistics, OneObservationHasNoInterval) {
  const Estimate mean = estimate_mean(std::vector<double>{2.5});
  EXPECT_EQ(mean.value, 2.5);
  EXPECT_TRUE(std::isnan(mean.low) && std::isnan(mean.high));
  EXPECT_TRUE(std::isnan(estimate_clustered_share(std::vector<double>{0.5}, 10).low));
  EXPECT_TRUE(std::isnan(exponential(mean).high));
}

TEST(Statistics, ExponentialKeepsTheOrder) {
  const Estimate ratio = exponential({.value = 0, .low = -1, .high = 1});
  EXPECT_DOUBLE_EQ(ratio.value, 1);
  EXPECT_DOUBLE_EQ(ratio.low, std::exp(-1));
  EXPECT_DOUBLE_EQ(ratio.high, std::exp(1));
}

TEST(Statistics, WilsonsPublishedValues) {
  const Estimate eight_of_ten = estimate_share(8, 10);
  EXPECT_DOUBLE_EQ(eight_of_ten.value, 0.8);
  EXPECT_NEAR(eight_of_ten.low, 0.490162, 1e-6);
  EXPECT_NEAR(eight_of_ten.high, 0.943318, 1e-6);
  EXPECT_EQ(estimate_share(0, 20).low, 0);
  EXPECT_NEAR(estimate_share(0, 20).high, 0.161125, 1e-6);
  EXPECT_EQ(estimate_share(20, 20).high, 1);
}

TEST(Statistics, ClusteredShareFallsBackToIndependentTrials) {
  // Equal clusters scatter less than chance would: as many trials as there are.
  const std::vector<double> equal(1000, 0.8);
  const Estimate clustered = estimate_clustered_share(equal, 10'000);
  const Estimate independent = estimate_share(8'000, 10'000);
  EXPECT_NEAR(clustered.low, independent.low, 1e-4);
  EXPECT_NEAR(clustered.high, independent.high, 1e-4);
  // Never a width of nothing, even when every trial succeeded.
  const Estimate perfect = estimate_clustered_share(std::vector<double>{1, 1, 1}, 30);
  EXPECT_EQ(perfect.high, 1);
  EXPECT_LT(perfect.low, 0.7);
}

TEST(Statistics, ClusteredShareWidensWhereClustersDiffer) {
  // Half the clusters all right, half all wrong: 100 observations, whatever the number of trials.
  std::vector<double> shares(100, 0.0);
  for (size_t i = 0; i < 50; ++i) shares[i] = 1;
  const Estimate clustered = estimate_clustered_share(shares, 100'000);
  const Estimate hundred = estimate_share(50, 100);
  EXPECT_NEAR(clustered.high - clustered.low, hundred.high - hundred.low, 0.01);
}

TEST(Statistics, PairedDifferenceByHand) {
  // (6+1)/102 - (3+1)/102 +- 1.96 sqrt((11/102 - (3/102)^2) / 102)
  const Estimate difference =
      estimate_paired_difference({.only_first = 6, .only_second = 3, .items = 100});
  EXPECT_DOUBLE_EQ(difference.value, 0.03);
  EXPECT_NEAR(difference.low, -0.0340622, 1e-6);
  EXPECT_NEAR(difference.high, 0.0928857, 1e-6);
}

TEST(Statistics, QuantilesInterpolate) {
  const std::vector<double> sorted{0, 10, 20, 30, 40};
  EXPECT_DOUBLE_EQ(quantile(sorted, 0), 0);
  EXPECT_DOUBLE_EQ(quantile(sorted, 0.5), 20);
  EXPECT_DOUBLE_EQ(quantile(sorted, 0.99), 39.6);
  EXPECT_DOUBLE_EQ(quantile(sorted, 1), 40);
  EXPECT_DOUBLE_EQ(quantile(std::vector<double>{7}, 0.3), 7);
}

/// How often an interval holds the truth, over 4,000 samples.
double coverage(double truth, const std::function<Estimate(std::mt19937_64&)>& sample) {
  std::mt19937_64 random(20);
  int hits = 0;
  constexpr int kSamples = 4000;
  for (int i = 0; i < kSamples; ++i) {
    const Estimate estimate = sample(random);
    hits += estimate.low <= truth && truth <= estimate.high ? 1 : 0;
  }
  return static_cast<double>(hits) / kSamples;
}

TEST(Statistics, MeanCoversTheTruth95TimesOutOf100) {
  for (const size_t windows : {3u, 12u, 60u}) {
    const double hit = coverage(5, [&](std::mt19937_64& random) {
      std::normal_distribution<double> normal(5, 2);
      std::vector<double> means(windows);
      for (double& mean : means) mean = normal(random);
      return estimate_mean(means);
    });
    EXPECT_NEAR(hit, 0.95, 0.012) << windows;
  }
}

TEST(Statistics, ClusteredShareCoversTheTruth) {
  // 30 windows of 100 tokens, each window with its own difficulty around 0.9.
  const double hit = coverage(0.9, [](std::mt19937_64& random) {
    std::uniform_real_distribution<double> difficulty(0.8, 1.0);
    std::vector<double> shares(30);
    for (double& share : shares) {
      share = std::binomial_distribution<int>(100, difficulty(random))(random) / 100.0;
    }
    return estimate_clustered_share(shares, 3000);
  });
  EXPECT_NEAR(hit, 0.95, 0.02);
}

TEST(Statistics, PairedDifferenceCoversTheTruth) {
  const double hit = coverage(0.02, [](std::mt19937_64& random) {
    std::discrete_distribution<int> kind({0.95, 0.035, 0.015});
    DiscordantItems counts{.items = 400};
    for (int i = 0; i < 400; ++i) {
      const int drawn = kind(random);
      counts.only_first += drawn == 1 ? 1 : 0;
      counts.only_second += drawn == 2 ? 1 : 0;
    }
    return estimate_paired_difference(counts);
  });
  EXPECT_NEAR(hit, 0.95, 0.02);
}

}  // namespace
}  // namespace fewbits
