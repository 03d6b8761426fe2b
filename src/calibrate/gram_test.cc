#include "calibrate/gram.h"

#include <gtest/gtest.h>

#include <random>

namespace fewbits {
namespace {

std::vector<float> inputs(int64_t count) {
  std::mt19937 random(3);
  std::normal_distribution<float> distribution;
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = distribution(random);
  return values;
}

TEST(Gram, IsTheMeanOfOuterProducts) {
  constexpr int64_t columns = 250, tokens = 60;
  const auto x = inputs(tokens * columns);
  ThreadPool pool(2);
  GramAccumulator gram(columns);
  gram.add(x.data(), 20, pool);
  gram.add(x.data() + 20 * columns, 40, pool);
  const auto mean = gram.mean();
  for (int64_t i = 0; i < columns; i += 7) {
    for (int64_t j = 0; j < columns; j += 5) {
      double expected = 0;
      for (int64_t t = 0; t < tokens; ++t) {
        expected += double{x[static_cast<size_t>(t * columns + i)]} *
                    x[static_cast<size_t>(t * columns + j)] / tokens;
      }
      EXPECT_NEAR(mean[static_cast<size_t>(i * columns + j)], expected, 1e-5);
    }
  }
}

TEST(Gram, SameBitsForAnyThreadCount) {
  constexpr int64_t columns = 450, tokens = 64;
  const auto x = inputs(tokens * columns);
  std::vector<std::vector<float>> means;
  for (int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    GramAccumulator gram(columns);
    gram.add(x.data(), tokens, pool);
    means.push_back(gram.mean());
  }
  EXPECT_EQ(means[0], means[1]);
  EXPECT_EQ(means[0], means[2]);
}

TEST(Cross, IsTheMeanOfOuterProductsForAnyThreadCount) {
  constexpr int64_t rows = 210, columns = 300, tokens = 40;
  const auto y = inputs(tokens * rows), x = inputs(tokens * columns);
  std::vector<std::vector<float>> means;
  for (int threads : {1, 3}) {
    ThreadPool pool(threads);
    CrossAccumulator cross(rows, columns);
    cross.add(y.data(), x.data(), 10, pool);
    cross.add(y.data() + 10 * rows, x.data() + 10 * columns, 30, pool);
    means.push_back(cross.take_mean());
  }
  EXPECT_EQ(means[0], means[1]);
  for (int64_t i = 0; i < rows; i += 7) {
    for (int64_t j = 0; j < columns; j += 5) {
      double expected = 0;
      for (int64_t t = 0; t < tokens; ++t) {
        expected += double{y[static_cast<size_t>(t * rows + i)]} *
                    x[static_cast<size_t>(t * columns + j)] / tokens;
      }
      EXPECT_NEAR(means[0][static_cast<size_t>(i * columns + j)], expected, 1e-5);
    }
  }
}

}  // namespace
}  // namespace fewbits
