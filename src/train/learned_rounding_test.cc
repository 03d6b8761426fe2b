#include "train/learned_rounding.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

namespace fewbits {
namespace {

constexpr int64_t kRows = 5, kColumns = 512;

std::vector<float> random_values(size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

std::vector<const Format*> learnable() {
  std::vector<const Format*> found;
  for (const Format* format : formats()) {
    if (LearnedRounding::can_learn(*format) && kColumns % format->block_values == 0) {
      found.push_back(format);
    }
  }
  return found;
}

/// A random matrix, rounded to the nearest and moved a little since: as where GPTQ has moved codes
/// away from the nearest.
struct Rounded {
  explicit Rounded(const Format& to) : format(to), weights(random_values(kRows * kColumns, 3)) {
    bytes.resize(static_cast<size_t>(kRows * row_bytes(format, kColumns)));
    encode_rows(format, weights.data(), kRows, kColumns, nullptr, Search::kBest, bytes.data());
    const std::vector<float> moves = random_values(weights.size(), 4);
    for (size_t i = 0; i < moves.size(); ++i) weights[i] += 0.1f * moves[i];
  }

  LearnedRounding learned(std::vector<int32_t> rows_at = {}) const {
    return {format, kColumns, weights, bytes, std::move(rows_at)};
  }

  std::vector<float> decoded(const std::vector<std::byte>& from) const {
    std::vector<float> values(weights.size());
    decode_rows(format, from.data(), kRows, kColumns, values.data());
    return values;
  }

  const Format& format;
  std::vector<float> weights;
  std::vector<std::byte> bytes;
};

std::vector<float> values_of(const LearnedRounding& learned) {
  ThreadPool pool(2);
  std::vector<float> values;
  learned.values(values, pool);
  return values;
}

double along(const std::vector<float>& values, const std::vector<float>& slope) {
  double sum = 0;
  for (size_t i = 0; i < values.size(); ++i) sum += double{values[i]} * slope[i];
  return sum;
}

TEST(LearnedRounding, BeginsWhereTheMatrixIs) {
  ThreadPool pool(2);
  for (const Format* format : learnable()) {
    const Rounded rounded(*format);
    const LearnedRounding learned = rounded.learned();
    EXPECT_EQ(values_of(learned), rounded.decoded(rounded.bytes)) << format->name;
    EXPECT_EQ(rounded.decoded(learned.bytes(pool)), rounded.decoded(rounded.bytes)) << format->name;
  }
}

TEST(LearnedRounding, BytesHoldTheValuesThatWereLearned) {
  ThreadPool pool(2);
  for (const Format* format : learnable()) {
    const Rounded rounded(*format);
    LearnedRounding learned = rounded.learned();
    for (unsigned step = 0; step < 5; ++step) {
      learned.learn(random_values(rounded.weights.size(), step), {0.05f, 0.01f}, pool);
    }
    EXPECT_NE(values_of(learned), rounded.decoded(rounded.bytes)) << format->name;
    EXPECT_EQ(values_of(learned), rounded.decoded(learned.bytes(pool))) << format->name;
  }
}

/// Straight through the rounding: where the loss is slope times values, places move against the
/// slope, each by the rate, and so no value goes up the slope.
TEST(LearnedRounding, ValuesGoDownTheSlope) {
  ThreadPool pool(2);
  for (const Format* format : learnable()) {
    const Rounded rounded(*format);
    const std::vector<float> slope = random_values(rounded.weights.size(), 7);
    LearnedRounding learned = rounded.learned();
    const std::vector<float> before = values_of(learned);
    learned.learn(slope, {0.2f, 0}, pool);
    const std::vector<float> after = values_of(learned);
    int64_t moved = 0;
    for (size_t i = 0; i < after.size(); ++i) {
      EXPECT_LE((after[i] - before[i]) * slope[i], 0) << format->name;
      moved += after[i] != before[i];
    }
    EXPECT_GT(moved, 0) << format->name;
    const double by_codes = along(after, slope);
    learned.learn(slope, {0, 0.01f}, pool);
    EXPECT_LE(along(values_of(learned), slope), by_codes) << format->name;
  }
}

TEST(LearnedRounding, CodesMoveByOneLevelAtMost) {
  ThreadPool pool(1);
  const Rounded rounded(format_named("Q4_0"));
  LearnedRounding learned = rounded.learned();
  const std::vector<float> before = values_of(learned);
  const std::vector<float> slope = random_values(before.size(), 7);
  for (int step = 0; step < 20; ++step) learned.learn(slope, {0.3f, 0}, pool);
  const std::vector<float> after = values_of(learned);
  for (size_t block = 0; block < before.size(); block += 32) {
    float largest = 0;  // of a block of Q4_0: eight levels
    for (size_t i = block; i < block + 32; ++i) largest = std::max(largest, std::abs(before[i]));
    for (size_t i = block; i < block + 32; ++i) {
      EXPECT_LE(std::abs(after[i] - before[i]), 1.01f * largest / 7) << i;
    }
  }
}

TEST(LearnedRounding, RowsStandInTheirPlaces) {
  ThreadPool pool(2);
  const Rounded rounded(format_named("IQ4_NL"));
  const std::vector<int32_t> rows_at = {3, 0, 4, 1, 2};
  LearnedRounding learned = rounded.learned(rows_at), straight = rounded.learned();
  const auto turned = [&](const std::vector<float>& values) {
    std::vector<float> result(values.size());
    for (size_t row = 0; row < kRows; ++row) {
      std::copy_n(values.begin() + static_cast<int64_t>(row) * kColumns, kColumns,
                  result.begin() + rows_at[row] * kColumns);
    }
    return result;
  };
  EXPECT_EQ(values_of(learned), turned(values_of(straight)));
  const std::vector<float> slope = random_values(rounded.weights.size(), 7);
  learned.learn(turned(slope), {0.2f, 0.01f}, pool);
  straight.learn(slope, {0.2f, 0.01f}, pool);
  EXPECT_EQ(learned.bytes(pool), straight.bytes(pool));
}

}  // namespace
}  // namespace fewbits
