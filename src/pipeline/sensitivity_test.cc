#include "pipeline/sensitivity.h"

#include <gtest/gtest.h>

#include "model/tiny_checkpoint.h"

namespace fewbits {
namespace {

TEST(FitToSize, WhatTheUserFixedStays) {
  TinyCheckpoint checkpoint;
  checkpoint.config["hidden_size"] = 64;
  checkpoint.config["num_attention_heads"] = 4;
  checkpoint.config["intermediate_size"] = 96;
  checkpoint.fill();
  const Model model = open_model(checkpoint.write());
  QuantizePlan plan =
      plan_quantize(model, {.to = "Q8_0", .tensor_formats = {{"blk.0.ffn_up*", "Q4_1"}}});
  std::vector<Sensitivity> sensitivities;
  for (const Weight& weight : model.weights) {
    if (weight.layer >= 0 && weight.is_matrix()) sensitivities.push_back({&weight, 0.1, 0.01});
  }
  const int64_t wanted = plan.bytes_out - 8000;
  fit_to_size(plan, sensitivities, wanted);
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

}  // namespace
}  // namespace fewbits
