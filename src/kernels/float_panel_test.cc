#include <algorithm>
#include <bit>

#include "base/half.h"
#include "kernels/test_support.h"

namespace fewbits {
namespace {

using FloatPanel = EachTable;
INSTANTIATE_TEST_SUITE_P(Isa, FloatPanel, testing::ValuesIn(usable_tables()), table_name);

void expect_product(const KernelTable& table, int64_t tokens, int64_t panels, int64_t depth) {
  const auto inputs = normal_values(tokens * depth, 1);
  const auto weights = normal_values(panels * depth * kGroupRows, 2);
  const int64_t rows = panels * kGroupRows;
  const Guarded<float> x(inputs), panel(weights);
  for (bool accumulate : {false, true}) {
    Guarded<float> out(std::vector<float>(static_cast<size_t>(tokens * rows), 0.25f));
    table.float_panel({.inputs = x.data(),
                       .input_stride = depth,
                       .tokens = tokens,
                       .panel = panel.data(),
                       .panel_stride = depth * kGroupRows,
                       .panels = panels,
                       .depth = depth,
                       .out = out.data(),
                       .out_stride = rows,
                       .accumulate = accumulate});
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t r = 0; r < rows; ++r) {
        double sum = accumulate ? 0.25 : 0;
        for (int64_t k = 0; k < depth; ++k) {
          const int64_t at = (r / kGroupRows * depth + k) * kGroupRows + r % kGroupRows;
          sum +=
              double{inputs[static_cast<size_t>(t * depth + k)]} * weights[static_cast<size_t>(at)];
        }
        ASSERT_NEAR(out[t * rows + r], sum, 1e-4)
            << tokens << " tokens, " << panels << " panels, depth " << depth;
      }
    }
  }
}

TEST_P(FloatPanel, EqualsTheDefinition) {
  for (int64_t tokens = 1; tokens <= 20; ++tokens) {
    for (int64_t panels = 1; panels <= 5; ++panels) {
      for (int64_t depth : {1, 2, 33}) expect_product(*GetParam(), tokens, panels, depth);
    }
  }
}

TEST_P(FloatPanel, ResultsDoNotDependOnOtherTokens) {
  constexpr int64_t kDepth = 50, kTokens = 19;
  const auto inputs = normal_values(kTokens * kDepth, 1);
  const auto weights = normal_values(2 * kDepth * kGroupRows, 2);
  std::vector<float> together(kTokens * 2 * kGroupRows), alone(together.size());
  PanelTask<float> task{inputs.data(),       kDepth, kTokens, weights.data(),
                        kDepth * kGroupRows, 2,      kDepth,  together.data(),
                        2 * kGroupRows,      false};
  GetParam()->float_panel(task);
  task.tokens = 1;
  for (int64_t t = 0; t < kTokens; ++t) {
    task.inputs = inputs.data() + t * kDepth;
    task.out = alone.data() + t * 2 * kGroupRows;
    GetParam()->float_panel(task);
  }
  EXPECT_EQ(together, alone);
}

/// Tokens as float_strip wants them, each group guarded by the next one's place.
std::vector<float> side_by_side(const KernelTable& table, const std::vector<float>& inputs,
                                int64_t tokens, int64_t depth) {
  std::vector<float> all;
  for (int64_t first = 0; first < tokens; first += kSideBySide) {
    const int64_t count = std::min<int64_t>(kSideBySide, tokens - first);
    const Guarded<float> group(std::vector<float>(inputs.begin() + first * depth,
                                                  inputs.begin() + (first + count) * depth));
    Guarded<float> out(std::vector<float>(static_cast<size_t>(kSideBySide * depth), 7.0f));
    table.lay_side_by_side(group.data(), depth, count, depth, out.data());
    all.insert(all.end(), out.data(), out.data() + kSideBySide * depth);
  }
  return all;
}

TEST_P(FloatPanel, InputsSideBySideAreTransposedByGroups) {
  const int64_t tokens = kSideBySide + 5;
  for (int64_t depth : {1, 15, 16, 37}) {
    const auto inputs = normal_values(tokens * depth, 1);
    const auto all = side_by_side(*GetParam(), inputs, tokens, depth);
    for (int64_t i = 0; i < std::ssize(all); ++i) {
      const int64_t token = i / (kSideBySide * depth) * kSideBySide + i % kSideBySide;
      const int64_t column = i / kSideBySide % depth;
      const float expected =
          token < tokens ? inputs[static_cast<size_t>(token * depth + column)] : 0;
      ASSERT_EQ(all[static_cast<size_t>(i)], expected) << token << " " << column;
    }
  }
}

TEST_P(FloatPanel, InputsSideBySideGiveTheSameResults) {
  constexpr int64_t kDepth = 50;
  for (int64_t tokens = 1; tokens <= 2 * kSideBySide + 1; ++tokens) {
    const auto inputs = normal_values(tokens * kDepth, 1);
    const auto beside = side_by_side(*GetParam(), inputs, tokens, kDepth);
    for (int64_t panels : {1, 2}) {
      const auto weights = normal_values(panels * kDepth * kGroupRows, 2);
      const int64_t rows = panels * kGroupRows;
      const auto start = normal_values(tokens * rows, 3);
      for (bool accumulate : {false, true}) {
        std::vector<float> apart = start;
        Guarded<float> together(start);
        PanelTask<float> task{
            inputs.data(), kDepth, tokens,       weights.data(), kDepth * kGroupRows,
            panels,        kDepth, apart.data(), rows,           accumulate};
        GetParam()->float_panel(task);
        const Guarded<float> x(beside);
        task.inputs = x.data();
        task.input_stride = kSideBySide * kDepth;
        task.out = together.data();
        GetParam()->float_strip(task);
        for (size_t i = 0; i < apart.size(); ++i)
          ASSERT_EQ(together[static_cast<int64_t>(i)], apart[i]) << tokens << " " << panels;
      }
    }
  }
}

TEST_P(FloatPanel, PanelsOfHalvesAndBfloatsGiveTheResultsOfTheirFloats) {
  constexpr int64_t kDepth = 33, kTokens = 5, kPanels = 3;
  const KernelTable& table = *GetParam();
  const auto inputs = normal_values(kTokens * kDepth, 1);
  std::vector<uint16_t> halves, bfloats;
  for (float value : normal_values(kPanels * kDepth * kGroupRows, 2)) {
    halves.push_back(half_from_float(value));
    bfloats.push_back(static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16));
  }
  const auto run = [&](auto kernel, const auto* panel) {
    std::vector<float> out(kTokens * kPanels * kGroupRows);
    kernel({inputs.data(), kDepth, kTokens, panel, kDepth * kGroupRows, kPanels, kDepth, out.data(),
            kPanels * kGroupRows, false});
    return out;
  };
  std::vector<float> floats(halves.size());
  table.halves_to_floats(halves.data(), std::ssize(halves), floats.data());
  EXPECT_EQ(run(table.half_panel, halves.data()), run(table.float_panel, floats.data()));
  table.bfloats_to_floats(bfloats.data(), std::ssize(bfloats), floats.data());
  EXPECT_EQ(run(table.bfloat_panel, reinterpret_cast<const BFloat*>(bfloats.data())),
            run(table.float_panel, floats.data()));
}

}  // namespace
}  // namespace fewbits
