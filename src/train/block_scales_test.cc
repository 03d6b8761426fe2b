#include "train/block_scales.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/mapped_file.h"
#include "formats/tensor_view.h"

namespace fewbits {
namespace {

/// A random matrix in a format, as a checkpoint would hold it.
struct StoredMatrix {
  explicit StoredMatrix(const Format& format) {
    constexpr int64_t kRows = 3, kColumns = 512;
    std::vector<float> values;
    for (int64_t i = 0; i < kRows * kColumns; ++i) {
      values.push_back(0.5f * std::sin(static_cast<float>(i * i % 1009)));
    }
    bytes.resize(static_cast<size_t>(kRows * row_bytes(format, kColumns)));
    encode_rows(format, values.data(), kRows, kColumns, nullptr, Search::kBest, bytes.data());
    tensor.name = "matrix";
    tensor.view = {&format, {kRows, kColumns}, bytes};
    weight.gguf_name = "matrix";
    weight.role = Role::kUp;
    weight.tensor = &tensor;
    weight.shape = {kRows, kColumns};
  }

  std::vector<std::byte> bytes;
  StoredTensor tensor = {};
  Weight weight = {};
};

std::vector<const Format*> tunable() {
  std::vector<const Format*> found;
  for (const Format* format : formats()) {
    if (BlockScales::can_tune(*format) && 512 % format->block_values == 0) found.push_back(format);
  }
  return found;
}

TEST(BlockScales, TheUsualFormatsCanBeTuned) {
  for (const char* name : {"Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "IQ4_NL", "IQ4_XS", "Q2_K",
                           "Q3_K", "Q4_K", "Q5_K", "Q6_K"}) {
    EXPECT_TRUE(BlockScales::can_tune(format_named(name))) << name;
  }
  for (const char* name : {"F16", "MXFP4", "IQ2_XXS"}) {
    EXPECT_FALSE(BlockScales::can_tune(format_named(name))) << name;
  }
}

TEST(BlockScales, WithoutFactorsEveryByteStays) {
  for (const Format* format : tunable()) {
    const StoredMatrix matrix(*format);
    EXPECT_EQ(BlockScales(matrix.weight).bytes(), matrix.bytes) << format->name;
  }
}

TEST(BlockScales, BytesHoldTheScaledValues) {
  ThreadPool pool(2);
  for (const Format* format : tunable()) {
    const StoredMatrix matrix(*format);
    BlockScales scales(matrix.weight);
    for (size_t i = 0; i < scales.log_factors.size(); ++i) {
      scales.log_factors[i] = 0.1f * std::sin(static_cast<float>(i));
    }
    std::vector<float> wanted, stored(3 * 512);
    scales.values(wanted, pool);
    decode(*format, scales.bytes().data(), std::ssize(stored), stored.data());
    for (size_t i = 0; i < stored.size(); ++i) {
      EXPECT_NEAR(stored[i], wanted[i], 2e-3 * std::abs(wanted[i]) + 5e-4) << format->name;
    }
  }
}

void expect_slopes(const Format& format) {
  ThreadPool pool(1);
  const StoredMatrix matrix(format);
  BlockScales scales(matrix.weight);
  std::vector<float> values, direction;
  scales.values(values, pool);
  for (size_t i = 0; i < values.size(); ++i) direction.push_back(std::cos(static_cast<float>(i)));
  const auto loss = [&] {
    std::vector<float> now;
    scales.values(now, pool);
    double sum = 0;
    for (size_t i = 0; i < now.size(); ++i) sum += double{now[i]} * direction[i];
    return sum;
  };
  scales.add_gradient(direction, values, pool);
  for (size_t i = 0; i < scales.log_factors.size(); i += 7) {
    constexpr float kStep = 0.01f;
    scales.log_factors[i] = kStep;
    const double above = loss();
    scales.log_factors[i] = -kStep;
    const double below = loss();
    scales.log_factors[i] = 0;
    EXPECT_NEAR((above - below) / (2 * kStep), scales.gradient[i], 2e-3) << i;
  }
}

TEST(BlockScales, GradientIsTheSlopeByTheLogFactors) {
  for (const char* name : {"Q4_0", "Q4_1", "Q4_K", "Q2_K", "IQ4_XS"}) {
    SCOPED_TRACE(name);
    expect_slopes(format_named(name));
  }
}

}  // namespace
}  // namespace fewbits
