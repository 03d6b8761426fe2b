#include "methods/column_scales.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace fewbits {
namespace {

/// What a block of these columns is expected to lose: mean (w s)^2 times the sum of (x / s)^2.
double loss(const std::vector<double>& inputs, const std::vector<double>& weights,
            const std::vector<float>& scales) {
  double w = 0, x = 0;
  for (size_t i = 0; i < scales.size(); ++i) {
    w += weights[i] * scales[i] * scales[i];
    x += inputs[i] / (double{scales[i]} * scales[i]);
  }
  return w * x;
}

TEST(ColumnScales, LoseLessThanNoneAndThanTheirNeighbours) {
  std::mt19937 random(1);
  std::lognormal_distribution<double> distribution(0, 1);
  std::vector<double> inputs(64), weights(64);
  for (double& value : inputs) value = distribution(random);
  for (double& value : weights) value = distribution(random);
  const std::vector<float> scales = column_scales(inputs, weights);
  const double best = loss(inputs, weights, scales);
  EXPECT_LT(best, loss(inputs, weights, std::vector<float>(64, 1.0f)));
  for (size_t i = 0; i < scales.size(); ++i) {
    for (const float factor : {0.9f, 1.1f}) {
      std::vector<float> other = scales;
      other[i] *= factor;
      EXPECT_LT(best, loss(inputs, weights, other));
    }
  }
}

TEST(ColumnScales, StaySaneWithoutInputsAndWithExtremes) {
  const std::vector<float> scales =
      column_scales(std::vector<double>{0, 1, 1e30, 1e-30}, std::vector<double>{1, 0, 1e-30, 1e30});
  EXPECT_EQ(scales[0], 1);
  EXPECT_EQ(scales[1], 1);
  EXPECT_NEAR(scales[2], 16, 1e-3);
  EXPECT_NEAR(scales[3], 1 / 16.0, 1e-3);
}

TEST(AwqCandidates, BeginWithNoneAndArePowersOfTheInputs) {
  const std::vector<double> inputs = {1, 16, 0}, weights = {1, 4, 1};
  const auto candidates = awq_candidates(inputs, weights);
  ASSERT_EQ(candidates.size(), 40u);
  for (const float scale : candidates.front()) EXPECT_EQ(scale, 1);
  for (const auto& scales : candidates) EXPECT_EQ(scales[2], 1);
  const std::vector<float>& half = candidates[20];  // |x|^(1/2): 1 and 2
  EXPECT_NEAR(half[1] / half[0], 2, 1e-5);
  const std::vector<float>& balanced = candidates[21];  // over |w|^(1/2): 1 and 2 / sqrt 2
  EXPECT_NEAR(balanced[1] / balanced[0], 1.41421356, 1e-5);
}

}  // namespace
}  // namespace fewbits
