#include "formats/search_robust.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

namespace fewbits {
namespace {

constexpr int64_t kColumns = 1024;

/// Bell-shaped, and one in fifty ten times as large.
std::vector<float> heavy_tailed() {
  std::mt19937 random(4);
  std::normal_distribution<float> normal(0, 0.02f);
  std::vector<float> values(kColumns);
  for (size_t i = 0; i < values.size(); ++i) values[i] = normal(random) * (i % 50 == 7 ? 10 : 1);
  return values;
}

double loss(const Format& format, const std::vector<float>& values, Search search) {
  std::vector<std::byte> bytes(static_cast<size_t>(row_bytes(format, kColumns)));
  encode_rows(format, values.data(), 1, kColumns, nullptr, search, bytes.data());
  std::vector<float> decoded(values.size());
  decode_rows(format, bytes.data(), 1, kColumns, decoded.data());
  double sum = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    sum += std::pow(std::abs(double{values[i]} - decoded[i]), 0.7);
  }
  return sum;
}

TEST(RobustSearch, LowersWhatItIsMadeToLowerInEveryFormat) {
  const std::vector<float> values = heavy_tailed();
  for (const Format* format : formats()) {
    if (!format->has_levels() || !format->can_encode() || format->encode_reference) continue;
    EXPECT_LE(loss(*format, values, Search::kRobust),
              loss(*format, values, Search::kBest) * (1 + 1e-9))
        << format->name;
  }
}

TEST(RobustSearch, FewLargeErrorsAreForgiven) {
  const std::vector<float> values = heavy_tailed();
  for (const char* name : {"Q4_0", "Q4_1", "Q4_K", "int4_g64_asym", "int3_g128_asym", "IQ4_NL"}) {
    const Format& format = format_named(name);
    EXPECT_LT(loss(format, values, Search::kRobust), loss(format, values, Search::kBest)) << name;
  }
}

TEST(RobustSearch, ZerosStayZeros) {
  const std::vector<float> zeros(kColumns, 0.0f);
  for (const Format* format : formats()) {
    if (!format->has_levels() || !format->can_encode()) continue;
    EXPECT_EQ(loss(*format, zeros, Search::kRobust), loss(*format, zeros, Search::kBest))
        << format->name;
  }
}

}  // namespace
}  // namespace fewbits
