#include "base/half.h"

#include <gtest/gtest.h>

#include <cmath>

namespace fewbits {
namespace {

TEST(Half, EveryCodeComesBack) {
  for (uint32_t code = 0; code < 0x10000; ++code) {
    const auto half = static_cast<uint16_t>(code);
    const float value = half_to_float(half);
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(half_to_float(half_from_float(value))));
    } else {
      EXPECT_EQ(half_from_float(value), half) << code;
    }
  }
}

TEST(Half, TiesGoToEven) {
  for (uint32_t code = 0; code < 0x7bff; ++code) {
    const float low = half_to_float(static_cast<uint16_t>(code));
    const float high = half_to_float(static_cast<uint16_t>(code + 1));
    const float middle = (low + high) / 2;
    EXPECT_EQ(half_from_float(middle), (code & 1) ? code + 1 : code);
    EXPECT_EQ(half_from_float(std::nextafter(middle, low)), code);
    EXPECT_EQ(half_from_float(std::nextafter(middle, high)), code + 1);
  }
}

TEST(Half, LargeValuesBecomeInfinity) {
  EXPECT_EQ(half_from_float(65519.996f), 0x7bff);
  EXPECT_EQ(half_from_float(65520.0f), 0x7c00);
  EXPECT_EQ(half_from_float(-INFINITY), 0xfc00);
}

TEST(Bfloat16, RoundsToEvenAndKeepsNan) {
  EXPECT_EQ(bfloat16_from_float(1.0f), 0x3f80);
  EXPECT_EQ(bfloat16_from_float(1.00390625f), 0x3f80);  // half way, even below
  EXPECT_EQ(bfloat16_from_float(1.01171875f), 0x3f82);  // half way, even above
  EXPECT_TRUE(std::isnan(bfloat16_to_float(bfloat16_from_float(NAN))));
}

}  // namespace
}  // namespace fewbits
