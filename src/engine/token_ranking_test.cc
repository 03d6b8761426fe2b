#include "engine/token_ranking.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "base/error.h"

namespace fewbits {
namespace {

std::vector<float> logits(size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> distribution(0, 3);
  std::vector<float> values(count);
  // Coarse, so that there are equals; both zeros among them.
  for (float& value : values) value = std::round(distribution(random) * 8) / 8;
  return values;
}

TEST(TokenRanking, EqualsSortingAllInWhateverOrderRanksAreAskedFor) {
  TokenRanking ranking;
  for (const size_t count : std::initializer_list<size_t>{1, 5, 16, 17, 1000, 20000}) {
    const auto values = logits(count, static_cast<unsigned>(count));
    std::vector<Token> sorted(count);
    for (size_t i = 0; i < count; ++i) sorted[i] = static_cast<Token>(i);
    std::ranges::stable_sort(sorted, [&](Token a, Token b) {
      return values[static_cast<size_t>(a)] > values[static_cast<size_t>(b)];
    });
    ranking.begin(values);
    ASSERT_EQ(ranking.size(), count);
    for (const size_t rank : {size_t{0}, size_t{3}, size_t{70}, size_t{9}, count / 2, count - 1}) {
      if (rank >= count) continue;
      EXPECT_EQ(ranking.at(rank).token, sorted[rank]) << rank << " of " << count;
      EXPECT_EQ(ranking.at(rank).logit, values[static_cast<size_t>(sorted[rank])]);
    }
  }
}

TEST(TokenRanking, RefusesWhatIsNotFinite) {
  TokenRanking ranking;
  for (const float broken :
       {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
    auto values = logits(100, 1);
    values[77] = broken;
    EXPECT_THROW(ranking.begin(values), Error);
  }
}

}  // namespace
}  // namespace fewbits
