#include "pipeline/sensitivity.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "base/error.h"
#include "calibrate/importance.h"
#include "calibrate/model_identity.h"
#include "model/tiny_checkpoint.h"
#include "pipeline/sensitivity_report.h"

namespace fewbits {
namespace {

/// The checkpoint of a model whose rows are whole blocks.
std::filesystem::path written(TinyCheckpoint& checkpoint) {
  checkpoint.config["hidden_size"] = 64;
  checkpoint.config["num_attention_heads"] = 4;
  checkpoint.config["intermediate_size"] = 96;
  checkpoint.fill();
  return checkpoint.write();
}

TEST(FitToSize, WhatTheUserFixedStays) {
  TinyCheckpoint checkpoint;
  const Model model = open_model(written(checkpoint));
  QuantizePlan plan =
      plan_quantize(model, {.to = "Q8_0", .tensor_formats = {{"blk.0.ffn_up*", "Q4_1"}}});
  constexpr std::pair<const char*, double> kCosts[] = {{"Q4_0", 0.1}, {"Q8_0", 0.001}};
  std::vector<Sensitivity> sensitivities;
  for (const Weight& weight : model.weights) {
    if (weight.layer < 0 || !weight.is_matrix()) continue;
    Sensitivity& matrix =
        sensitivities.emplace_back(Sensitivity{&weight, &probe_format(), 0.1, 0.01});
    for (const auto& [name, divergence] : kCosts) {
      const Format& format = format_named(name);
      const int64_t bytes = weight.rows() * row_bytes(format, weight.columns());
      matrix.costs.push_back({&format, bytes, divergence / 10, divergence / 10});
    }
  }
  const int64_t wanted = plan.bytes_out - 8000;
  fit_to_size(plan, sensitivities, Rounding::kNearest, wanted);
  EXPECT_LE(plan.bytes_out, wanted);
  int changed = 0;
  for (const PlannedWeight& planned : plan.weights) {
    if (planned.weight->gguf_name == "blk.0.ffn_up.weight") {
      EXPECT_EQ(planned.format->name, "Q4_1");
    } else if (planned.weight->layer >= 0 && planned.weight->is_matrix()) {
      changed += planned.format->name != "Q8_0";
    }
  }
  EXPECT_GT(changed, 0);
}

// Fitting takes more of some formats' losses than of others'.
TEST(FitToSize, FormatsAreChosenForTheRoundingThereWillBe) {
  TinyCheckpoint checkpoint;
  const Model model = open_model(written(checkpoint));
  const char* const kBetterWhen[] = {"Q4_0", "IQ4_NL"};  // of equal bytes: nearest, fitted
  std::vector<Sensitivity> sensitivities;
  for (const Weight& weight : model.weights) {
    if (weight.layer < 0 || !weight.is_matrix()) continue;
    Sensitivity& matrix =
        sensitivities.emplace_back(Sensitivity{&weight, &probe_format(), 0.1, 0.01});
    for (const char* name : kBetterWhen) {
      const Format& format = format_named(name);
      const bool first = name == kBetterWhen[0];
      matrix.costs.push_back({&format, weight.rows() * row_bytes(format, weight.columns()),
                              first ? 0.01 : 0.02, first ? 0.004 : 0.003});
    }
  }
  for (const Rounding rounding : {Rounding::kNearest, Rounding::kFitted}) {
    QuantizePlan plan = plan_quantize(model, {.to = "Q8_0"});
    fit_to_size(plan, sensitivities, rounding, plan.bytes_out);
    for (const PlannedWeight& planned : plan.weights) {
      if (planned.weight->layer < 0 || !planned.weight->is_matrix()) continue;
      EXPECT_EQ(planned.format->name, kBetterWhen[rounding == Rounding::kFitted]);
    }
  }
}

class MeasuredSensitivity : public testing::Test {
 protected:
  SensitivityReport report() {
    return {.model = model_identity(model_),
            .matrices = measure_sensitivity(model_, samples_, options_, pool_)};
  }

  TinyCheckpoint checkpoint_;
  Model model_ = open_model(written(checkpoint_));
  ThreadPool pool_{2};
  std::vector<std::vector<Token>> samples_ = {std::vector<Token>(24, 3), {1, 2, 3, 4, 5, 6, 7, 8}};
  Importance importance_ = gather_importance(model_, samples_, pool_);
  FormatErrors errors_ = measure_format_errors(
      model_, samples_, [](int64_t, int64_t) {}, pool_);
  SensitivityOptions options_{.importance = &importance_, .errors = &errors_};
};

TEST_F(MeasuredSensitivity, EveryMatrixCostsSomethingAndMoreInFewerBits) {
  const SensitivityReport measured = report();
  ASSERT_FALSE(measured.matrices.empty());
  for (const Sensitivity& matrix : measured.matrices) {
    EXPECT_GE(matrix.divergence, 0) << matrix.weight->gguf_name;
    const auto cost = [&](const char* name) {
      return *std::ranges::find(matrix.costs, &format_named(name), &FormatCost::format);
    };
    EXPECT_LT(cost("Q8_0").output_error, cost("Q5_0").output_error);
    EXPECT_LT(cost("Q5_0").output_error, cost("Q4_0").output_error);
    EXPECT_LT(cost("Q5_0").bytes, cost("Q8_0").bytes);
    EXPECT_LT(cost("Q8_0").fitted_error, cost("Q5_0").fitted_error);
    EXPECT_LT(cost("Q5_0").fitted_error, cost("Q4_0").fitted_error);
    EXPECT_LT(cost("Q4_0").fitted_error, cost("Q4_0").output_error);
  }
}

TEST_F(MeasuredSensitivity, ErrorsOfFormatsAreTheSameForAnyNumberOfThreads) {
  for (const int threads : {1, 5}) {
    ThreadPool pool(threads);
    const FormatErrors errors = measure_format_errors(
        model_, samples_, [](int64_t, int64_t) {}, pool);
    ASSERT_EQ(errors.size(), errors_.size());
    for (const auto& [weight, expected] : errors_) {
      const std::vector<FormatError>& found = errors.at(weight);
      ASSERT_EQ(found.size(), expected.size());
      for (size_t i = 0; i < found.size(); ++i) {
        EXPECT_EQ(found[i].format, expected[i].format);
        EXPECT_EQ(found[i].nearest, expected[i].nearest) << found[i].format->name;
        EXPECT_EQ(found[i].fitted, expected[i].fitted) << found[i].format->name;
      }
    }
  }
}

// What all together lose is near what each adds to the others, and these near what each loses
// alone: that is why formats can be chosen one by one.
TEST_F(MeasuredSensitivity, InTheRoundedModelAsAlone) {
  const SensitivityReport alone = report();
  for (const Sensitivity& matrix : alone.matrices) {
    options_.rounded[matrix.weight] = &probe_format();
  }
  const SensitivityReport together = report();
  double sum_alone = 0, sum_together = 0;
  for (size_t i = 0; i < alone.matrices.size(); ++i) {
    EXPECT_EQ(alone.matrices[i].output_error, together.matrices[i].output_error);
    sum_alone += alone.matrices[i].divergence;
    sum_together += together.matrices[i].divergence;
  }
  EXPECT_GT(sum_together, 0.3 * sum_alone);
  EXPECT_LT(sum_together, 3 * sum_alone);
}

TEST_F(MeasuredSensitivity, AReportReadBackSaysTheSame) {
  const Json json = to_json(report());
  EXPECT_EQ(to_json(sensitivity_report(json, model_, "report.json")), json);
}

TEST_F(MeasuredSensitivity, AReportOfAnotherModelIsRefused) {
  Json json = to_json(report());
  json["model"] = "0";
  EXPECT_THROW(sensitivity_report(json, model_, "report.json"), Error);
}

TEST_F(MeasuredSensitivity, ABrokenReportIsRefused) {
  const Json json = to_json(report());
  for (const char* key : {"schema", "model", "matrices"}) {
    Json broken = json;
    broken.erase(key);
    EXPECT_THROW(sensitivity_report(broken, model_, "report.json"), Error) << key;
  }
  for (const auto& [key, value] : {std::pair<const char*, Json>{"name", "nothing"},
                                   {"format", "nothing"},
                                   {"output_error", -1},
                                   {"divergence", "much"},
                                   {"formats", Json::array()}}) {
    Json broken = json;
    broken["matrices"][0][key] = value;
    EXPECT_THROW(sensitivity_report(broken, model_, "report.json"), Error) << key;
  }
}

}  // namespace
}  // namespace fewbits
