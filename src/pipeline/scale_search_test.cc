#include "pipeline/scale_search.h"

#include <gtest/gtest.h>

#include "model/tiny_checkpoint.h"

namespace fewbits {
namespace {

constexpr int64_t kColumns = 96;

/// A matrix of 96 columns that are fed independent inputs, one of 32 much larger.
class OutlyingInputs : public testing::Test {
 protected:
  OutlyingInputs() : model_(open_model(write())) {
    constexpr double kOutlying = 400;
    gram_.resize(kColumns * kColumns);
    for (int64_t j = 0; j < kColumns; ++j) {
      inputs_.push_back(j % 32 == 3 ? kOutlying : 1);
      gram_[static_cast<size_t>(j * kColumns + j)] = static_cast<float>(inputs_.back());
    }
    search_ = {.readers = {{model_.find(Role::kDown, 0), &format_}},
               .inputs = inputs_,
               .gram = gram_,
               .scale_of_column = {}};
  }

  std::filesystem::path write() {
    checkpoint_.config["intermediate_size"] = kColumns;
    checkpoint_.fill();
    return checkpoint_.write();
  }

  double error_of(const std::vector<float>& scales) const {
    const Weight& weight = *model_.find(Role::kDown, 0);
    double error = 0;
    std::vector<float> row(kColumns), scaled(kColumns), found(kColumns);
    std::vector<std::byte> bytes(static_cast<size_t>(row_bytes(format_, kColumns)));
    for (int64_t i = 0; i < weight.rows(); ++i) {
      weight.read_row(i, row.data());
      for (size_t j = 0; j < row.size(); ++j) scaled[j] = row[j] * scales[j];
      encode_rows(format_, scaled.data(), 1, kColumns, nullptr, Search::kBest, bytes.data());
      decode(format_, bytes.data(), kColumns, found.data());
      for (size_t j = 0; j < row.size(); ++j) {
        const double change = found[j] / scales[j] - row[j];
        error += change * change * inputs_[j];
      }
    }
    return error;
  }

  const Format& format_ = format_named("Q4_0");
  TinyCheckpoint checkpoint_;
  Model model_;
  ThreadPool pool_{1};
  std::vector<double> inputs_;
  std::vector<float> gram_;
  ScaleSearch search_;
};

TEST_F(OutlyingInputs, AreRoundedFiner) {
  const std::vector<float> none(kColumns, 1.0f);
  const std::vector<float> awq = choose_scales(search_, ColumnScaling::kAwq, pool_);
  EXPECT_LT(error_of(awq), 0.7 * error_of(none));
  EXPECT_GT(awq[3], awq[4]);
}

TEST_F(OutlyingInputs, AreKnownWithoutTheirProducts) {
  const std::vector<float> with = choose_scales(search_, ColumnScaling::kAwq, pool_);
  search_.gram = {};
  EXPECT_EQ(choose_scales(search_, ColumnScaling::kAwq, pool_), with);
}

TEST_F(OutlyingInputs, ColumnsThatShareAScaleGetOne) {
  for (int32_t j = 0; j < kColumns; ++j) search_.scale_of_column.push_back(j / 2);
  for (const ColumnScaling scaling : {ColumnScaling::kBalanced, ColumnScaling::kAwq}) {
    EXPECT_EQ(choose_scales(search_, scaling, pool_).size(), size_t{kColumns / 2});
  }
}

}  // namespace
}  // namespace fewbits
