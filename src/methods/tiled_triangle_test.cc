#include "methods/tiled_triangle.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/normal_values.h"

namespace fewbits {
namespace {

/// A = B B^T / n + 1, B random.
TiledTriangle positive_definite(int64_t n) {
  const std::vector<float> b = normal_values(n * n, 3);
  TiledTriangle a(n);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j <= i; ++j) {
      double sum = 0;
      for (int64_t k = 0; k < n; ++k) {
        sum += double{b[static_cast<size_t>(i * n + k)]} * b[static_cast<size_t>(j * n + k)];
      }
      a.at(i, j) = sum / static_cast<double>(n) + (i == j ? 1 : 0);
    }
  }
  return a;
}

class TiledTriangleTest : public testing::TestWithParam<int64_t> {};

// One tile and a part of one, tiles that fit and that do not.
INSTANTIATE_TEST_SUITE_P(Sizes, TiledTriangleTest, testing::Values(1, 7, 32, 33, 96, 150, 401));

TEST_P(TiledTriangleTest, FactorsAndInverts) {
  const int64_t n = GetParam();
  ThreadPool pool(2);
  const TiledTriangle wanted = positive_definite(n);
  TiledTriangle lower = wanted;
  ASSERT_TRUE(lower.factor(pool));
  TiledTriangle inverse = lower;
  inverse.invert(pool);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j <= i; ++j) {
      double squared = 0, product = 0;
      for (int64_t k = 0; k <= j; ++k) squared += lower.at(i, k) * lower.at(j, k);
      for (int64_t k = j; k <= i; ++k) product += inverse.at(i, k) * lower.at(k, j);
      ASSERT_NEAR(squared, wanted.at(i, j), 1e-12) << i << ", " << j;
      ASSERT_NEAR(product, i == j ? 1 : 0, 1e-12) << i << ", " << j;
    }
  }
}

TEST_P(TiledTriangleTest, GivesTheSameBitsForAnyNumberOfThreads) {
  const int64_t n = GetParam();
  TiledTriangle one = positive_definite(n), three = one;
  ThreadPool alone(1), crew(3);
  for (const auto& [triangle, pool] : {std::pair(&one, &alone), std::pair(&three, &crew)}) {
    ASSERT_TRUE(triangle->factor(*pool));
    triangle->invert(*pool);
  }
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j <= i; ++j) ASSERT_EQ(one.at(i, j), three.at(i, j));
  }
}

TEST_P(TiledTriangleTest, SaysWhatIsNotPositiveDefinite) {
  TiledTriangle a = positive_definite(GetParam());
  a.at(GetParam() - 1, GetParam() - 1) = -1e-3;
  ThreadPool pool(1);
  EXPECT_FALSE(a.factor(pool));
}

TEST(TiledTriangle, HandsOutItsElementsInRuns) {
  TiledTriangle a(100);
  for (int64_t i = 0; i < 100; ++i) {
    for (int64_t j = 0; j <= i;) {
      for (double& element : a.run(i, j)) element = static_cast<double>(1000 * i + j++);
    }
  }
  for (int64_t i = 0; i < 100; ++i) {
    for (int64_t j = 0; j <= i; ++j) ASSERT_EQ(a.at(i, j), static_cast<double>(1000 * i + j));
  }
}

}  // namespace
}  // namespace fewbits
