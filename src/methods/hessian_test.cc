#include "methods/hessian.h"

#include <gtest/gtest.h>

#include "base/normal_values.h"

namespace fewbits {
namespace {

constexpr int64_t kColumns = 37;

/// The mean of x x^T over some tokens of inputs that go together.
std::vector<float> gram_of(int64_t tokens) {
  const auto x = normal_values(tokens * kColumns, 1);
  std::vector<float> gram(kColumns * kColumns);
  for (int64_t t = 0; t < tokens; ++t) {
    const auto input = [&](int64_t j) {
      return x[static_cast<size_t>(t * kColumns + j)] + x[static_cast<size_t>(t * kColumns)];
    };
    for (int64_t i = 0; i < kColumns; ++i) {
      for (int64_t j = 0; j < kColumns; ++j) {
        gram[static_cast<size_t>(i * kColumns + j)] +=
            input(i) * input(j) / static_cast<float>(tokens);
      }
    }
  }
  return gram;
}

TEST(Hessian, RowsTimesItAndItsInverseAreTheRows) {
  ThreadPool pool(2);
  const Hessian hessian = factor_hessian(gram_of(200), kColumns, pool, {.tokens = 1000});
  const auto rows = normal_values(3 * kColumns, 2);
  std::vector<float> product(rows.size());
  for (size_t i = 0; i < 3; ++i) {
    for (size_t j = 0; j < kColumns; ++j) {
      for (size_t k = 0; k < kColumns; ++k)
        product[i * kColumns + j] += rows[i * kColumns + k] * hessian.matrix[k * kColumns + j];
    }
  }
  multiply_by_inverse(hessian, product);
  for (size_t i = 0; i < rows.size(); ++i) EXPECT_NEAR(product[i], rows[i], 2e-4) << i;
}

TEST(Hessian, FewTokensKeepLittleOfWhatIsOffTheDiagonal) {
  ThreadPool pool(1);
  const std::vector<float> gram = gram_of(50);
  const Hessian hessian =
      factor_hessian(gram, kColumns, pool, {.tokens = static_cast<int64_t>(kPriorTokens)});
  EXPECT_DOUBLE_EQ(hessian.kept, 0.5);
  EXPECT_FLOAT_EQ(hessian.matrix[1], 0.5f * gram[1]);
  EXPECT_GT(hessian.diagonal(1), gram[kColumns + 1]);
  EXPECT_EQ(factor_hessian(gram, kColumns, pool).kept, 1);
}

}  // namespace
}  // namespace fewbits
