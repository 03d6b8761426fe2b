#include "methods/smoothing.h"

#include <gtest/gtest.h>

namespace fewbits {
namespace {

TEST(Smoothing, SharesSizeAsAlphaSays) {
  const std::vector<float> inputs = {16, 4, 0, 1}, weights = {1, 4, 1, 0};
  const std::vector<float> half = smoothing_scales(inputs, weights, 0.5);
  EXPECT_FLOAT_EQ(half[0], 4);
  EXPECT_FLOAT_EQ(half[1], 1);
  EXPECT_EQ(half[2], 1);
  EXPECT_EQ(half[3], 1);
  EXPECT_FLOAT_EQ(smoothing_scales(inputs, weights, 1)[0], 16);
  EXPECT_FLOAT_EQ(smoothing_scales(inputs, weights, 0)[1], 0.25);
}

TEST(Equalizing, MakesRowsAndColumnsAlike) {
  const std::vector<float> rows = {9, 1, 0}, columns = {1, 4, 2};
  const std::vector<float> scales = equalizing_scales(rows, columns);
  EXPECT_FLOAT_EQ(rows[0] / scales[0], columns[0] * scales[0]);
  EXPECT_FLOAT_EQ(rows[1] / scales[1], columns[1] * scales[1]);
  EXPECT_EQ(scales[2], 1);
}

}  // namespace
}  // namespace fewbits
