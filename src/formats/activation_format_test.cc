#include "formats/activation_format.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "base/error.h"
#include "formats/format.h"

namespace fewbits {
namespace {

std::vector<float> normal_values(size_t count, float deviation = 1) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal(0, deviation);
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

std::vector<float> rounded(const char* name, const std::vector<float>& values, float scale = 0) {
  std::vector<float> out(values.size());
  round_activations(activation_format_named(name), values.data(), std::ssize(values), scale,
                    out.data());
  return out;
}

double relative_error(const std::vector<float>& values, const std::vector<float>& out) {
  double error = 0, square = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    error += std::pow(double{values[i]} - out[i], 2);
    square += std::pow(double{values[i]}, 2);
  }
  return error / square;
}

/// On the grid `scale` of a format of weights with the same levels, the nearest one.
float nearest(const char* weights, float scale, float value) {
  const Format& format = format_named(weights);
  uint8_t code;
  float result;
  const Grid grid = {scale, -0.0f};
  round_to_grid(format, grid, &value, 1, &code);
  values_of_codes(format, grid, &code, 1, &result);
  return result;
}

TEST(ActivationFormats, AreSortedAndNamed) {
  EXPECT_TRUE(std::ranges::is_sorted(activation_formats(), {}, &ActivationFormat::name));
  EXPECT_THROW(activation_format_named("int7"), Error);
}

TEST(RoundActivations, FloatsGoToTheNearestLevel) {
  const std::pair<const char*, const char*> kPairs[] = {{"fp8", "fp8_e4m3"},
                                                        {"fp8_e5m2", "fp8_e5m2"}};
  const std::vector<float> values = normal_values(4099, 0.3f);
  float largest = 0;
  for (const float value : values) largest = std::max(largest, std::abs(value));
  for (const auto& [name, weights] : kPairs) {
    const float scale = largest / activation_format_named(name).largest;
    const std::vector<float> out = rounded(name, values);
    for (size_t i = 0; i < values.size(); ++i) {
      EXPECT_NEAR(out[i], nearest(weights, scale, values[i]), 1e-6f * std::abs(values[i]))
          << name << " " << values[i];
    }
  }
}

TEST(RoundActivations, IntegersShareAScaleOfAToken) {
  const std::vector<float> values = normal_values(999);
  float largest = 0;
  for (const float value : values) largest = std::max(largest, std::abs(value));
  const std::vector<float> out = rounded("int8", values);
  for (size_t i = 0; i < values.size(); ++i) {
    const float code = std::nearbyint(values[i] / (largest / 127));
    EXPECT_FLOAT_EQ(out[i], code * (largest / 127));
  }
}

TEST(RoundActivations, StaticScalesCutOff) {
  const std::vector<float> values = {0.26f, -0.74f, 40, -400, 0};
  EXPECT_EQ(rounded("int8", values, 0.25f),
            (std::vector<float>{0.25f, -0.75f, 31.75f, -31.75f, 0}));
  EXPECT_EQ(rounded("fp8", {1e9f, -1e9f, 3.3f}, 2), (std::vector<float>{896, -896, 3.25f}));
}

TEST(RoundActivations, PowersOfTwoCutNothingOff) {
  std::vector<float> values(64, 0.0f);
  values[0] = 7;   // 6 * 2^0 would cut it off
  values[33] = 6;  // fits exactly
  values[34] = 0.5f;
  const std::vector<float> out = rounded("mxfp4", values);
  EXPECT_EQ(out[0], 8);  // 2 * 4
  EXPECT_EQ(out[33], 6);
  EXPECT_EQ(out[34], 0.5f);
}

// NVFP4's scales are E4M3 in units of the token's largest / (6 * 448).
TEST(RoundActivations, BlocksOfNvfp4HaveCoarseScales) {
  std::vector<float> values(32, 0.0f);
  values[0] = 2688;  // unit 1, block scale 448
  values[1] = 448;
  values[16] = 6.0f * 1.06f;  // wants a scale of 1.06, gets 1
  const std::vector<float> out = rounded("nvfp4", values);
  EXPECT_EQ(out[0], 2688);
  EXPECT_EQ(out[1], 448);
  EXPECT_EQ(out[16], 6);
  EXPECT_EQ(rounded("nvfp4", values, 0.5f)[0], 0.5f * 2688) << "the scale ends at 448";
}

// The error on normal data is that of the formats of weights with the same codes, which search for
// their scales.
TEST(RoundActivations, ErrorOnNormalValues) {
  const std::vector<float> values = normal_values(1 << 15);
  const std::pair<const char*, double> kErrors[] = {
      {"fp8", 7.0e-4},   {"fp8_e5m2", 2.8e-3},   {"mxfp8", 7.1e-4}, {"mxfp6_e2m3", 8.1e-4},
      {"mxfp4", 1.5e-2}, {"mxfp6_e3m2", 2.9e-3}, {"mxint8", 9e-5},  {"nvfp4", 9.05e-3}};
  for (const auto& [name, error] : kErrors) {
    const double found = relative_error(values, rounded(name, values));
    EXPECT_LT(found, 1.12 * error) << name;
    EXPECT_GT(found, 0.75 * error) << name;
  }
}

TEST(RoundActivations, ZerosAndTinyValuesStay) {
  for (const ActivationFormat& format : activation_formats()) {
    const std::string name(format.name);
    for (const float value : rounded(name.c_str(), std::vector<float>(70, 0.0f)))
      EXPECT_EQ(value, 0) << name;
    for (const float value : rounded(name.c_str(), std::vector<float>(70, 1e-42f))) {
      EXPECT_TRUE(std::isfinite(value)) << name;
      EXPECT_LT(std::abs(value), 1e-37f) << name;
    }
  }
}

TEST(RoundActivations, NumbersThatAreNoneAreSeen) {
  for (const ActivationFormat& format : activation_formats()) {
    for (const float bad :
         {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
      std::vector<float> values(16, 1.0f);
      values[3] = bad;
      for (const float scale : {0.0f, 0.5f}) {
        for (const float value : rounded(std::string(format.name).c_str(), values, scale))
          EXPECT_TRUE(std::isnan(value)) << format.name;
      }
    }
  }
}

}  // namespace
}  // namespace fewbits
