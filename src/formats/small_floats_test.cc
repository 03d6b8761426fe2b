#include "formats/small_floats.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "formats/format.h"

// Every code of every small float against its definition, written down a second time.
namespace fewbits::small_floats {
namespace {

struct Definition {
  const char* format;  ///< one that uses it
  int exponent, mantissa, bias;
  double largest, smallest_normal, smallest;
  int infinities, not_numbers;
};

constexpr Definition kDefinitions[] = {
    {"fp8_e4m3", 4, 3, 7, 448, 0x1p-6, 0x1p-9, 0, 2},
    {"fp8_e5m2", 5, 2, 15, 57344, 0x1p-14, 0x1p-16, 2, 6},
    {"fp6_e2m3", 2, 3, 1, 7.5, 1, 0.125, 0, 0},
    {"fp6_e3m2", 3, 2, 3, 28, 0.25, 0.0625, 0, 0},
    {"fp4_e2m1", 2, 1, 1, 6, 1, 0.5, 0, 0},
};

constexpr Grid kUnit = {1, -0.0f};

class SmallFloats : public testing::TestWithParam<Definition> {
 protected:
  const Format& format_ = format_named(GetParam().format);
};
INSTANTIATE_TEST_SUITE_P(All, SmallFloats, testing::ValuesIn(kDefinitions),
                         [](const auto& info) { return std::string(info.param.format); });

TEST_P(SmallFloats, EachCodeHasItsValue) {
  const Definition& is = GetParam();
  const int codes = 1 << (1 + is.exponent + is.mantissa);
  ASSERT_EQ(std::ssize(format_.levels), codes);
  int infinities = 0, not_numbers = 0;
  for (int code = 0; code < codes; ++code) {
    const float level = format_.levels[static_cast<size_t>(code)];
    infinities += std::isinf(level);
    not_numbers += std::isnan(level);
    if (!std::isfinite(level)) continue;
    const int e = (code >> is.mantissa) & ((1 << is.exponent) - 1);
    const double m = (code & ((1 << is.mantissa) - 1)) / std::exp2(is.mantissa);
    const double magnitude = e == 0 ? m * std::exp2(1 - is.bias) : (1 + m) * std::exp2(e - is.bias);
    const bool minus = code >= codes / 2;
    EXPECT_EQ(level, minus ? -magnitude : magnitude) << code;
    EXPECT_EQ(std::signbit(level), minus) << code;
    EXPECT_LE(magnitude, is.largest);
  }
  EXPECT_EQ(infinities, is.infinities);
  EXPECT_EQ(not_numbers, is.not_numbers);
  EXPECT_EQ(format_.levels[1], is.smallest);
  EXPECT_EQ(format_.levels[size_t{1} << is.mantissa], is.smallest_normal);
}

/// Nearest, ties to even: by steps of the exponent, without a table.
double rounded(double value, const Definition& is) {
  const double magnitude = std::min<double>(std::abs(value), 1e6);
  const int exponent = magnitude > 0 ? std::max(std::ilogb(magnitude), 1 - is.bias) : 1 - is.bias;
  const double step = std::exp2(exponent - is.mantissa);
  return std::copysign(std::min(std::nearbyint(magnitude / step) * step, is.largest), value);
}

TEST_P(SmallFloats, RoundsToNearestTiesToEvenAndSaturates) {
  const Definition& is = GetParam();
  std::vector<float> values = {0.0f, -0.0f, INFINITY, -INFINITY, std::numeric_limits<float>::max()};
  for (size_t i = 0; i + 1 < format_.ascending.size(); ++i) {
    const float low = format_.levels[format_.ascending[i]];
    const float high = format_.levels[format_.ascending[i + 1]];
    const float middle = 0.5f * (low + high);
    for (const float value : {low, middle, 0.25f * low + 0.75f * high,
                              std::nextafter(middle, -INFINITY), std::nextafter(middle, INFINITY)})
      values.push_back(value);
  }
  for (const float value : values) {
    const float level = format_.levels[nearest_code(format_, value)];
    ASSERT_EQ(level, rounded(value, is)) << value;
    if (level == 0 && value != 0) {
      ASSERT_EQ(std::signbit(level), std::signbit(value)) << value;
    }
    uint8_t code = 0;
    round_to_grid(format_, kUnit, &value, 1, &code);
    ASSERT_EQ(format_.levels[code], level) << value;
  }
  EXPECT_TRUE(std::isfinite(format_.levels[nearest_code(format_, NAN)]));
}

template <class Float>
void expect_same_rounding(const Format& format) {
  for (const float low : format.levels) {
    for (const float factor : {1.0f, 1.01f, 1.06f, 1.1f, 1.2f, 1.26f, 1.3f, 1.4f}) {
      const float value = low * factor;
      if (!std::isfinite(value)) continue;
      const Float4 four = Float::Rounding::levels(splat(value));
      EXPECT_EQ(four[0], format.levels[nearest_code(format, value)]) << value;
    }
  }
}

TEST(SmallFloatSearch, SearchesRoundAsTheCodesDo) {
  expect_same_rounding<E4M3>(format_named("fp8_e4m3"));
  expect_same_rounding<E5M2>(format_named("fp8_e5m2"));
  expect_same_rounding<E2M3>(format_named("fp6_e2m3"));
  expect_same_rounding<E3M2>(format_named("fp6_e3m2"));
  expect_same_rounding<E2M1>(format_named("fp4_e2m1"));
}

TEST(SmallFloatSearch, ScalesThatArePowersOfTwo) {
  const Format& format = format_named("mxfp8_e4m3");
  for (int e = 0; e < 255; ++e) {
    BlockParameters parameters{.scale = static_cast<uint16_t>(e)};
    Grid grid;
    format.grids(parameters, &grid);
    ASSERT_EQ(grid.scale, std::ldexp(1.0f, e - 127)) << e;
  }
}

}  // namespace
}  // namespace fewbits::small_floats
