#include "methods/hadamard.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <random>

namespace fewbits {
namespace {

TEST(Paley, RowsAreOrthogonal) {
  int known = 0;
  for (int64_t size = 1; size <= 256; ++size) {
    const std::vector<int8_t> matrix = paley_matrix(size);
    if (matrix.empty()) continue;
    ++known;
    for (int64_t i = 0; i < size; ++i) {
      for (int64_t j = 0; j < size; ++j) {
        const auto a = matrix.begin() + i * size, b = matrix.begin() + j * size;
        ASSERT_EQ(std::inner_product(a, a + size, b, 0), i == j ? size : 0) << size;
      }
    }
  }
  EXPECT_GT(known, 30);
}

TEST(Paley, KnowsTheSizesOfModels) {
  for (const int64_t size : {12, 20, 28, 36, 44, 52, 60, 76, 100, 108, 140}) {
    EXPECT_FALSE(paley_matrix(size).empty()) << size;
  }
  for (const int64_t size : {576, 768, 896, 960, 3200, 4096, 4864, 5120, 13824}) {
    EXPECT_EQ(hadamard_block(size), size);
  }
}

TEST(Paley, OtherSizesAreCutIntoBlocks) {
  EXPECT_EQ(hadamard_block(11008), 256);  // 43 * 256
  EXPECT_EQ(hadamard_block(9), 1);
  EXPECT_EQ(hadamard_block(6), 2);
}

std::vector<float> random_values(int64_t count) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  std::vector<float> values;
  for (int64_t i = 0; i < count; ++i) values.push_back(normal(random));
  return values;
}

TEST(HadamardRotation, KeepsInnerProductsAndWhereAskedTheMean) {
  for (const int64_t size : {1, 2, 6, 9, 48, 64, 80, 576, 1000}) {
    for (const bool keeps_mean : {false, true}) {
      const HadamardRotation rotation(size, 5, keeps_mean);
      const std::vector<float> a = random_values(size), b(a.rbegin(), a.rend());
      std::vector<float> c = a, d = b;
      rotation.apply(c.data());
      rotation.apply(d.data());
      const auto bound = 1e-5 * static_cast<double>(size);
      EXPECT_NEAR(std::inner_product(a.begin(), a.end(), b.begin(), 0.0),
                  std::inner_product(c.begin(), c.end(), d.begin(), 0.0), bound);
      EXPECT_NEAR(std::inner_product(a.begin(), a.end(), a.begin(), 0.0),
                  std::inner_product(c.begin(), c.end(), c.begin(), 0.0), bound);
      if (!keeps_mean) continue;
      EXPECT_NEAR(std::accumulate(a.begin(), a.end(), 0.0),
                  std::accumulate(c.begin(), c.end(), 0.0), bound);
    }
  }
}

TEST(HadamardRotation, TurnsVectorsSideBySideAsEachAlone) {
  constexpr int64_t kSize = 80, kWidth = 70, kStride = 75;
  const HadamardRotation rotation(kSize, 9, true);
  std::vector<float> values = random_values(kSize * kStride);
  const std::vector<float> before = values;
  rotation.apply(values.data(), kWidth, kStride);
  for (int64_t j = 0; j < kStride; ++j) {
    std::vector<float> one;
    for (int64_t i = 0; i < kSize; ++i) {
      one.push_back(before[static_cast<size_t>(i * kStride + j)]);
    }
    if (j < kWidth) rotation.apply(one.data());
    for (int64_t i = 0; i < kSize; ++i) {
      EXPECT_FLOAT_EQ(one[static_cast<size_t>(i)], values[static_cast<size_t>(i * kStride + j)]);
    }
  }
}

TEST(HadamardRotation, FollowsItsSeedAndSpreadsOutliers) {
  std::vector<float> a(64), b(64), c(64);
  for (auto* one : {&a, &b, &c}) (*one)[7] = 8;
  HadamardRotation(64, 1).apply(a.data());
  HadamardRotation(64, 1).apply(b.data());
  HadamardRotation(64, 2).apply(c.data());
  EXPECT_EQ(a, b);
  std::vector<float> ones(64, 1), other(64, 1);
  HadamardRotation(64, 1).apply(ones.data());
  HadamardRotation(64, 2).apply(other.data());
  EXPECT_NE(ones, other);
  for (const float value : a) EXPECT_FLOAT_EQ(std::abs(value), 1);
}

}  // namespace
}  // namespace fewbits
