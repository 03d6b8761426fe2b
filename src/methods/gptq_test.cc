#include "methods/gptq.h"

#include <gtest/gtest.h>

#include <vector>

#include "base/normal_values.h"

namespace fewbits {
namespace {

constexpr int64_t kColumns = 512, kRows = 12, kTokens = 2048;

/// Gram matrix of inputs whose channels are correlated: each is a mix of few common sources and
/// noise of its own.
std::vector<float> correlated_gram(unsigned seed) {
  constexpr int64_t sources = 24;
  const auto mixing = normal_values(kColumns * sources, seed);
  const auto common = normal_values(kTokens * sources, seed + 1);
  auto x = normal_values(kTokens * kColumns, seed + 2);
  for (int64_t t = 0; t < kTokens; ++t) {
    for (int64_t j = 0; j < kColumns; ++j) {
      float& value = x[static_cast<size_t>(t * kColumns + j)];
      for (int64_t s = 0; s < sources; ++s) {
        value += mixing[static_cast<size_t>(j * sources + s)] *
                 common[static_cast<size_t>(t * sources + s)];
      }
    }
  }
  std::vector<float> gram(static_cast<size_t>(kColumns * kColumns), 0.0f);
  for (int64_t t = 0; t < kTokens; ++t) {
    const float* row = x.data() + t * kColumns;
    for (int64_t i = 0; i < kColumns; ++i) {
      for (int64_t j = 0; j < kColumns; ++j)
        gram[static_cast<size_t>(i * kColumns + j)] += row[i] * row[j] / kTokens;
    }
  }
  return gram;
}

double output_error(const Hessian& hessian, const std::vector<float>& weights,
                    const std::vector<float>& other) {
  double sum = 0;
  for (int64_t row = 0; row < kRows; ++row) {
    for (int64_t i = 0; i < kColumns; ++i) {
      const auto difference = [&](int64_t j) {
        return double{weights[static_cast<size_t>(row * kColumns + j)]} -
               other[static_cast<size_t>(row * kColumns + j)];
      };
      double inner = 0;
      for (int64_t j = 0; j < kColumns; ++j) {
        inner += double{hessian.matrix[static_cast<size_t>(i * kColumns + j)]} * difference(j);
      }
      sum += difference(i) * inner;
    }
  }
  return sum;
}

ThreadPool& one_thread() {
  static ThreadPool pool(1);
  return pool;
}

class GptqTest : public testing::TestWithParam<const Format*> {};

std::vector<const Format*> block_formats() {
  std::vector<const Format*> result;
  for (const Format* format : formats()) {
    if (format->has_levels()) result.push_back(format);
  }
  return result;
}

INSTANTIATE_TEST_SUITE_P(AllBlockFormats, GptqTest, testing::ValuesIn(block_formats()),
                         [](const auto& info) { return std::string(info.param->name); });

TEST_P(GptqTest, BeatsRoundingToNearestAndDescentBeatsPlain) {
  const Format& format = *GetParam();
  static const Hessian hessian = factor_hessian(correlated_gram(1), kColumns, one_thread());
  const auto weights = normal_values(kRows * kColumns, 9);
  std::vector<std::byte> bytes(static_cast<size_t>(kRows * row_bytes(format, kColumns)));
  std::vector<float> decoded(weights.size());
  const auto error_of_bytes = [&] {
    decode_rows(format, bytes.data(), kRows, kColumns, decoded.data());
    return output_error(hessian, weights, decoded);
  };
  std::vector<float> importance(static_cast<size_t>(kColumns));
  for (int64_t j = 0; j < kColumns; ++j) importance[static_cast<size_t>(j)] = hessian.diagonal(j);
  encode_rows(format, weights.data(), kRows, kColumns, importance.data(), Search::kBest,
              bytes.data());
  const double nearest = error_of_bytes();

  Outer outer;
  TensorRange range;
  range.add(weights.data(), kRows * kColumns);
  if (format.fit_tensor) format.fit_tensor(range, outer);
  const double said_plain =
      gptq({format, hessian, {.descent_passes = 0}, &outer}, weights.data(), kRows, bytes.data());
  const double plain = error_of_bytes();
  EXPECT_NEAR(said_plain, plain, 2e-3 * plain);
  EXPECT_LT(plain, nearest);

  gptq({format, hessian, {}, &outer}, weights.data(), kRows, bytes.data());
  const double polished = error_of_bytes();
  EXPECT_LT(polished, plain);
  RecordProperty("nearest_over_polished", std::to_string(nearest / polished));
  std::printf("%-7s nearest %.4g, gptq %.3f of it, with descent %.3f\n",
              std::string(format.name).c_str(), nearest, plain / nearest, polished / nearest);
}

TEST(Hessian, SurvivesDeadAndSingularInputs) {
  std::vector<float> gram(16 * 16, 0.0f);
  for (int i = 0; i < 8; ++i) {
    for (int j = 0; j < 8; ++j)
      gram[static_cast<size_t>(i * 16 + j)] = 1.0f;  // rank one, and eight dead inputs
  }
  const Hessian hessian = factor_hessian(gram, 16, one_thread());
  EXPECT_GE(hessian.damping, 0.01);
  for (int i = 0; i < 16; ++i) EXPECT_GT(hessian.update[static_cast<size_t>(i * 16 + i)], 0.0f);
}

TEST(Hessian, FewTokensSayLittleOfPairsOfInputs) {
  const std::vector<float> gram = {2, 0.5f, 0.5f, 1};
  const auto prior = static_cast<int64_t>(kPriorTokens);
  const std::pair<int64_t, float> kTokens[] = {{0, 0.5f}, {prior / 4, 0.1f}, {prior, 0.25f}};
  for (const auto& [tokens, pair] : kTokens) {
    const Hessian hessian =
        factor_hessian(gram, 2, one_thread(), {.damping = 1e-6, .tokens = tokens});
    EXPECT_NEAR(hessian.matrix[1], pair, 1e-5);
    EXPECT_NEAR(hessian.matrix[2], pair, 1e-5);
    EXPECT_NEAR(hessian.diagonal(0), 2, 1e-5);
    EXPECT_NEAR(hessian.diagonal(1), 1, 1e-5);
  }
}

TEST(Hessian, UpdateIsTheFactorOfTheInverse) {
  const std::vector<float> gram = {4, 1, 0.5f, 1, 3, 0.2f, 0.5f, 0.2f, 2};
  const Hessian hessian = factor_hessian(gram, 3, one_thread(), {.damping = 1e-6});
  ASSERT_EQ(hessian.order, (std::vector<int32_t>{0, 1, 2}));
  for (size_t i = 0; i < 3; ++i) {
    for (size_t j = 0; j < 3; ++j) {  // (U^T U) H = I
      double product = 0;
      for (size_t k = 0; k < 3; ++k) {
        double inverse = 0;
        for (size_t m = 0; m < 3; ++m)
          inverse += double{hessian.update[m * 3 + i]} * hessian.update[m * 3 + k];
        product += inverse * gram[k * 3 + j];
      }
      EXPECT_NEAR(product, i == j ? 1.0 : 0.0, 1e-4);
    }
  }
}

/// A few inputs a million times larger than the rest, as the first token has in many models.
TEST_P(GptqTest, ScalesStaySaneWhereFewInputsDominate) {
  const Format& format = *GetParam();
  std::vector<float> gram(static_cast<size_t>(kColumns * kColumns), 0.0f);
  const auto direction = normal_values(kColumns, 7);
  for (int64_t i = 0; i < kColumns; ++i) {
    for (int64_t j = 0; j < kColumns; ++j) {
      gram[static_cast<size_t>(i * kColumns + j)] =
          1e6f * direction[static_cast<size_t>(i)] * direction[static_cast<size_t>(j)];
    }
    gram[static_cast<size_t>(i * kColumns + i)] += 1;
  }
  const Hessian hessian = factor_hessian(gram, kColumns, one_thread());
  const auto weights = normal_values(kRows * kColumns, 8);
  Outer outer;
  TensorRange range;
  range.add(weights.data(), kRows * kColumns);
  if (format.fit_tensor) format.fit_tensor(range, outer);
  std::vector<std::byte> bytes(static_cast<size_t>(kRows * row_bytes(format, kColumns)));
  gptq({format, hessian, {}, &outer}, weights.data(), kRows, bytes.data());
  std::vector<float> decoded(weights.size());
  decode_rows(format, bytes.data(), kRows, kColumns, decoded.data());
  double error = 0, square = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    error += (double{decoded[i]} - weights[i]) * (double{decoded[i]} - weights[i]);
    square += double{weights[i]} * weights[i];
  }
  EXPECT_LT(error, square);
}

}  // namespace
}  // namespace fewbits
