#include "pipeline/allocate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "base/error.h"

namespace fewbits {
namespace {

using Items = std::vector<std::vector<Choice>>;

double cost_of(const Items& items, const std::vector<size_t>& chosen) {
  double cost = 0;
  for (size_t i = 0; i < items.size(); ++i) cost += items[i][chosen[i]].cost;
  return cost;
}

int64_t bytes_of(const Items& items, const std::vector<size_t>& chosen) {
  int64_t bytes = 0;
  for (size_t i = 0; i < items.size(); ++i) bytes += items[i][chosen[i]].bytes;
  return bytes;
}

/// The least cost by trying everything.
double least_cost(const Items& items, int64_t budget, size_t from = 0) {
  if (budget < 0) return 1e9;
  if (from == items.size()) return 0;
  double least = 1e9;
  for (const Choice& choice : items[from]) {
    least = std::min(least, choice.cost + least_cost(items, budget - choice.bytes, from + 1));
  }
  return least;
}

Items random_items(std::mt19937& random, size_t count) {
  std::uniform_real_distribution<double> slope(0.1, 10);
  Items items(count);
  for (auto& choices : items) {
    const double scale = slope(random);
    for (int bits = 2; bits <= 6; ++bits) {
      choices.push_back({bits * 100, scale * std::pow(4.0, -bits) * slope(random)});
    }
  }
  return items;
}

TEST(Allocate, ComesCloseToTheBestAndKeepsTheBudget) {
  std::mt19937 random(3);
  for (int round = 0; round < 50; ++round) {
    const Items items = random_items(random, 6);
    for (const int64_t budget : {1200, 1500, 2100, 2900, 3600}) {
      const auto chosen = allocate(items, budget);
      EXPECT_LE(bytes_of(items, chosen), budget);
      EXPECT_LE(cost_of(items, chosen), 1.35 * least_cost(items, budget) + 1e-12);
    }
  }
}

TEST(Allocate, SpendsWhereItHelpsMost) {
  const Items items = {{{10, 1.0}, {20, 0.1}}, {{10, 5.0}, {20, 0.5}}, {{10, 0.0}, {20, 0.0}}};
  EXPECT_EQ(allocate(items, 40), (std::vector<size_t>{0, 1, 0}));
  EXPECT_EQ(allocate(items, 1000), (std::vector<size_t>{1, 1, 0}));
}

TEST(Allocate, SaysHowMuchIsMissing) {
  const Items items = {{{600, 1.0}}, {{500, 1.0}}};
  try {
    allocate(items, 1000);
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("100 B more"));
  }
}

}  // namespace
}  // namespace fewbits
