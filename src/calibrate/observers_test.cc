#include "calibrate/observers.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <random>
#include <vector>

#include "base/error.h"

namespace fewbits {
namespace {

const ActivationFormat& kInt8 = activation_format_named("int8");

std::vector<float> normal_values(size_t count, uint32_t seed = 1) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

Histogram histogram_of(const std::vector<float>& values) {
  Histogram histogram;
  histogram.add(values);
  return histogram;
}

TEST(Histogram, DoesNotDependOnTheOrderOfPieces) {
  std::vector<float> values = normal_values(10000);
  values[7000] = 300;
  const Histogram whole = histogram_of(values);
  Histogram forward, backward;
  for (size_t i = 0; i < 100; ++i) forward.add(std::span(values).subspan(100 * i, 100));
  for (size_t i = 100; i-- > 0;) backward.add(std::span(values).subspan(100 * i, 100));
  for (const Histogram* other : {&forward, &backward}) {
    EXPECT_EQ(other->width(), whole.width());
    EXPECT_EQ(other->counts(), whole.counts());
    EXPECT_EQ(other->largest(), 300);
  }
  EXPECT_EQ(whole.width(), 512.0f / 2048);
  EXPECT_EQ(whole.used(), 1201);
}

TEST(Histogram, CountsEveryFiniteValue) {
  const Histogram histogram = histogram_of({0, -1, 1e-40f, 3e38f, NAN, INFINITY});
  EXPECT_EQ(histogram.total(), 4);
  EXPECT_EQ(std::accumulate(histogram.counts().begin(), histogram.counts().end(), int64_t{0}), 4);
  EXPECT_TRUE(std::isfinite(histogram.width()));
  EXPECT_EQ(histogram_of({0, 0}).total(), 2);
}

TEST(Percentile, IsExactToABin) {
  std::vector<float> values;  // 1 to 10000, by turns negative
  for (int i = 1; i <= 10000; ++i) values.push_back(static_cast<float>(i % 2 ? i : -i));
  const Histogram histogram = histogram_of(values);
  for (const double share : {0.5, 0.99, 0.999, 1.0}) {
    EXPECT_NEAR(percentile_range(histogram, share), 10000 * share, histogram.width()) << share;
  }
  EXPECT_EQ(percentile_range(histogram_of({0, 0, 0}), 0.99), 0);
}

TEST(Percentile, OfNormalValues) {
  const Histogram histogram = histogram_of(normal_values(1'000'000));
  EXPECT_NEAR(percentile_range(histogram, 0.9999), 3.89, 0.05);
  EXPECT_NEAR(percentile_range(histogram, 0.999), 3.29, 0.02);
}

// For 256 levels the best range of a normal distribution is 4 sigma (3.92 in Max's tables, where
// the levels are half a step away from zero).
TEST(LeastSquares, CutsNormalValuesAtFourSigma) {
  const Histogram histogram = histogram_of(normal_values(1'000'000));
  EXPECT_NEAR(least_squares_range(histogram, kInt8), 3.95, 0.25);
  EXPECT_NEAR(least_squares_range(histogram, activation_format_named("int4")), 2.47, 0.1);
}

TEST(LeastSquares, KeepsAUniformRange) {
  std::mt19937 random(2);
  std::uniform_real_distribution<float> uniform(-3, 3);
  std::vector<float> values(200'000);
  for (float& value : values) value = uniform(random);
  EXPECT_GT(least_squares_range(histogram_of(values), kInt8), 2.9f);
  EXPECT_EQ(least_squares_range(histogram_of({0, 0}), kInt8), 0);
}

// A value that is far from all others would make their steps too wide: 8 bits cut it off. FP8
// keeps its relative precision and need not.
TEST(LeastSquares, CutsOutliersOff) {
  std::vector<float> values = normal_values(1'000'000);
  values[5] = 30;
  const float int8 = least_squares_range(histogram_of(values), kInt8);
  EXPECT_LT(int8, 8);
  EXPECT_GT(int8, 3);
  EXPECT_GT(least_squares_range(histogram_of(values), activation_format_named("fp8")), int8);
}

TEST(Entropy, CutsNormalValuesAtThreeToFourSigma) {
  const Histogram histogram = histogram_of(normal_values(1'000'000));
  EXPECT_GT(histogram.largest(), 4.6f);
  EXPECT_GT(entropy_range(histogram, 128), 2.8f);
  EXPECT_LT(entropy_range(histogram, 128), 4.3f);
}

TEST(Entropy, CutsOutliersOff) {
  std::vector<float> values = normal_values(1'000'000);
  for (size_t i = 0; i < 20; ++i) values[i] = 40 + static_cast<float>(i);
  const float range = entropy_range(histogram_of(values), 128);
  EXPECT_GT(range, 2.8f);
  EXPECT_LT(range, 12);
}

TEST(Entropy, KeepsAUniformRangeAndFewBins) {
  std::mt19937 random(2);
  std::uniform_real_distribution<float> uniform(-3.9f, 3.9f);
  std::vector<float> values(200'000);
  for (float& value : values) value = uniform(random);
  EXPECT_GT(entropy_range(histogram_of(values), 128), 3.7f);
  EXPECT_EQ(entropy_range(histogram_of({0, 0}), 128), 0);
  EXPECT_EQ(entropy_range(histogram_of({1}), 128), 1);
}

// Zeros say nothing: half of the values after a ReLU.
TEST(Entropy, DoesNotSeeTheSpikeOfZeros) {
  std::vector<float> values = normal_values(1'000'000);
  const float plain = entropy_range(histogram_of(values), 128);
  values.resize(2'000'000, 0.0f);
  EXPECT_NEAR(entropy_range(histogram_of(values), 128), plain, 0.01f);
}

TEST(InputObserver, FollowsItsRule) {
  const std::vector<float> values = normal_values(100'000);
  const auto range = [&](std::string_view name) {
    InputObserver observer(observer_named(name));
    observer.add(std::span(values).first(50'000));
    observer.add(std::span(values).last(50'000));
    EXPECT_LT(observer.least(), -3.5f);
    EXPECT_GT(observer.most(), 3.5f);
    return observer.range(kInt8);
  };
  float largest = 0;
  for (const float value : values) largest = std::max(largest, std::abs(value));
  EXPECT_EQ(range("absmax"), largest);
  EXPECT_LE(range("average"), largest);
  EXPECT_NEAR(range("percentile:99.9"), 3.29, 0.05);
  EXPECT_NEAR(range("percentile"), 3.89, 0.15);
  EXPECT_LT(range("mse"), largest);
  EXPECT_LT(range("entropy"), largest);
}

TEST(InputObserver, AveragesTheLargestOfSamples) {
  InputObserver observer({ObserverKind::kAverage});
  observer.add(std::vector<float>{-4, 1});
  observer.add(std::vector<float>{8});
  EXPECT_FLOAT_EQ(observer.range(kInt8), 4.2f);
}

TEST(Observers, NamesAreChecked) {
  EXPECT_EQ(observer_named("percentile:99.5").share, 0.995);
  for (const char* name : {"", "max", "mse:3", "percentile:", "percentile:0", "percentile:101",
                           "percentile:9x", "percentile:nan"}) {
    EXPECT_THROW(observer_named(name), Error) << name;
  }
  EXPECT_THROW(refuse_observer({ObserverKind::kEntropy}, activation_format_named("fp8")), Error);
  EXPECT_THROW(refuse_observer({ObserverKind::kMse}, activation_format_named("nvfp4")), Error);
  refuse_observer({ObserverKind::kPercentile}, activation_format_named("nvfp4"));
}

}  // namespace
}  // namespace fewbits
