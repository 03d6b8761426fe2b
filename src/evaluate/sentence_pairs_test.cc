#include "evaluate/sentence_pairs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "base/error.h"

namespace fewbits {
namespace {

using ::testing::HasSubstr;

SentencePairs read(const std::string& text, int64_t limit = 0) {
  const auto path = std::filesystem::temp_directory_path() / "fewbits-pairs-test.csv";
  std::ofstream(path, std::ios::binary) << text;
  return read_sentence_pairs(path, limit);
}

TEST(SentencePairs, ReadsCsv) {
  const auto pairs =
      read("A girl.,A boy.,2.5\r\n\"one, two\",\"a \"\"b\"\"\nc\",0\nx,,5\n\ne,f,1.25\nlast,one,3");
  ASSERT_EQ(pairs.pairs.size(), 5u);
  EXPECT_EQ(pairs.pairs[0].second, "A boy.");
  EXPECT_EQ(pairs.pairs[0].score, 2.5);
  EXPECT_EQ(pairs.pairs[1].first, "one, two");
  EXPECT_EQ(pairs.pairs[1].second, "a \"b\"\nc");
  EXPECT_EQ(pairs.pairs[2].second, "");
  EXPECT_EQ(pairs.pairs[4].score, 3);
  EXPECT_EQ(read("a,b,1\na,b,2\na,b,3\na,b,4\nbroken", 4).pairs.size(), 4u);
}

TEST(SentencePairs, RefusesOtherFiles) {
  const auto refusal = [](const std::string& text) -> std::string {
    try {
      read(text);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_THAT(refusal("a,b,1\nc,d\n"), HasSubstr("row 2 is not"));
  EXPECT_THAT(refusal("a,b,1x\n"), HasSubstr("row 1 is not"));
  EXPECT_THAT(refusal("a,b,nan\n"), HasSubstr("row 1 is not"));
  EXPECT_THAT(refusal("a,b,1\n"), HasSubstr("at least 4"));
  EXPECT_TRUE(is_sentence_pairs("x/stsb.CSV"));
  EXPECT_FALSE(is_sentence_pairs("piqa.jsonl"));
}

TEST(Spearman, KnownValues) {
  const std::vector<double> a = {1, 2, 3, 4, 5};
  EXPECT_DOUBLE_EQ(spearman(a, std::vector<double>{2, 4, 6, 8, 100}), 1);
  EXPECT_DOUBLE_EQ(spearman(a, std::vector<double>{5, 4, 3, 2, 1}), -1);
  // By hand: squared rank differences sum to 4, 1 - 6 * 4 / (5 * 24).
  EXPECT_DOUBLE_EQ(spearman(a, std::vector<double>{2, 1, 4, 3, 5}), 0.8);
  // Ties share a rank: 1.5, 1.5, 3, 4.5, 4.5.
  EXPECT_NEAR(spearman(a, std::vector<double>{1, 1, 2, 3, 3}), 9 / std::sqrt(10.0 * 9), 1e-12);
  EXPECT_TRUE(std::isnan(spearman(a, std::vector<double>(5, 1))));
}

TEST(Spearman, IntervalByFishersZ) {
  const Estimate estimate = spearman_estimate(0.8, 103);
  const double error = std::sqrt((1 + 0.32) / 100);
  EXPECT_NEAR(estimate.low, std::tanh(std::atanh(0.8) - 1.96 * error), 1e-4);
  EXPECT_NEAR(estimate.high, std::tanh(std::atanh(0.8) + 1.96 * error), 1e-4);
  EXPECT_TRUE(std::isnan(spearman_estimate(1, 100).low));
}

}  // namespace
}  // namespace fewbits
