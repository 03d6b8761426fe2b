#include <algorithm>

#include "base/checked_math.h"
#include "kernels/activations.h"
#include "kernels/block_packing.h"
#include "kernels/test_support.h"

// Every table's kernels on every block layout against double arithmetic, with the codes, scales and
// inputs that are nearest to an overflow.
namespace fewbits {
namespace {

/// int8 inputs of some tokens, with memory of their own.
struct Inputs {
  Inputs(const KernelTable& made_by, const std::vector<float>& values, int64_t tokens,
         CodeScales code_scales = {}, int64_t side = 1)
      : table(made_by),
        columns(std::ssize(values) / tokens),
        count(round_up(tokens, side) * columns),
        codes(count),
        scales(count / 32),
        less32(count / 32),
        less16(count / 16),
        scaled32(count / 32),
        scaled16(count / 16),
        blocks{codes.data(),    scales.data(),   less32.data(), less16.data(),
               scaled32.data(), scaled16.data(), side} {
    for (int64_t t = 0; t < tokens; ++t) {
      table.quantize_inputs(values.data() + t * columns, columns, code_scales,
                            inputs_at(blocks, columns, t, 0));
    }
  }
  /// What sums of a token with codes of a layout start from, from a column on.
  const int32_t* starts(const BlockLayout& layout, int64_t token = 0, int64_t column = 0) const {
    if (layout.zero_shift == kNoZero) return nullptr;
    const int64_t size = count / kBlockValues * layout.sub_blocks;
    const auto* less = layout.sub_blocks == 1 ? less32.data() : less16.data();
    sums = std::make_unique<Guarded<int32_t>>(size);
    table.start_sums(less, size, layout.zero_shift, sums->data());
    const int64_t side = blocks.side_by_side;
    const int64_t group = (token / side * columns + column) * side;
    return sums->data() + group / kBlockValues * layout.sub_blocks + token % side;
  }
  double value(int64_t token, int64_t k) const {
    const BlockInputs at = inputs_at(blocks, columns, token, k / 32 * 32);
    return double{*at.scales} * at.codes[k % 32 / 4 * blocks.side_by_side * 4 + k % 4];
  }

  const KernelTable& table;
  int64_t columns;
  int64_t count;
  Guarded<int8_t> codes;
  Guarded<float> scales;
  Guarded<int32_t> less32, less16;
  Guarded<float> scaled32, scaled16;
  mutable std::unique_ptr<Guarded<int32_t>> sums;
  BlockInputs blocks;
};

/// Normal values, the largest code everywhere, and the largest code with both signs by turns.
std::vector<float> input_pattern(int pattern, int64_t count) {
  if (pattern == 0) return normal_values(count, 3);
  std::vector<float> values(static_cast<size_t>(count), 1.5f);
  for (size_t i = 1; pattern == 2 && i < values.size(); i += 2) values[i] = -1.5f;
  for (size_t i = 0; pattern == 3 && i < values.size(); ++i) values[i] = -1.5f;
  return values;
}

/// 16 rows of a format: random bits, or all bits alike, with reasonable halves.
struct Group {
  Group(const BlockLayout& block_layout, int64_t columns, int pattern)
      : layout(block_layout),
        format(format_named(layout.format)),
        bytes(columns / format.block_values * layout.super_bytes()),
        weights(static_cast<size_t>(16 * columns)) {
    std::mt19937 random(7);
    std::vector<std::byte> row(static_cast<size_t>(row_bytes(format, columns)));
    for (int64_t r = 0; r < 16; ++r) {
      for (std::byte& byte : row) {
        const uint64_t fill[] = {random(), 0x00, 0xff, 0x80, 0x7f};
        byte = static_cast<std::byte>(fill[pattern] & 0xff);
      }
      const auto outer = static_cast<size_t>(format.outer_bytes);
      constexpr float kOne = 1;  // kernels do not see it
      if (outer > 0) std::memcpy(row.data(), &kOne, sizeof kOne);
      for (size_t at = outer; at < row.size(); at += static_cast<size_t>(format.block_bytes))
        set_halves(row.data() + at, r);
      pack_block_row(layout, format, row.data() + outer, columns, r, bytes.data());
      decode(format, row.data(), columns, weights.data() + r * columns);
      if (layout.vectors()) continue;
      std::vector<std::byte> again(row.begin(), row.begin() + format.outer_bytes);
      again.resize(row.size());
      unpack_block_row(layout, format, bytes.data(), columns, r, again.data() + outer);
      EXPECT_EQ(row, again) << format.name;
    }
  }

  void set_halves(std::byte* block, int64_t row) const {
    if (layout.vectors())
      return store_half(half_from_float(0.01f * static_cast<float>(row - 5)), block);
    BlockParameters parameters;
    std::array<uint8_t, kMaxBlockValues> codes;
    format.unpack(block, parameters, codes.data());
    parameters.scale = layout.super_scale == SuperScale::kPower
                           ? static_cast<uint16_t>(121 + row % 8)
                           : half_from_float(0.01f * static_cast<float>(row - 5));
    if (parameters.minimum != 0) parameters.minimum = half_from_float(0.3f);
    format.pack(parameters, codes.data(), block);
  }

  const BlockLayout& layout;
  const Format& format;
  Guarded<uint8_t> bytes;
  std::vector<float> weights;
};

struct Expected {
  double value, scale;  ///< scale: what rounding errors are relative to
};

constexpr double kMinimum = 0.3;

/// The largest minimum of a weight: scale and minimum are added up apart and may cancel in the end.
double largest_minimum(const BlockLayout& layout) {
  if (!layout.minimum) return 0;
  if (layout.sub_scale == SubScale::kNone) return kMinimum;
  return kMinimum * (layout.sub_scale == SubScale::kNibbles ? 15 : 63);
}

Expected expected(const Group& group, const Inputs& inputs, int64_t token, int64_t row) {
  Expected result{0, 0};
  for (int64_t k = 0; k < inputs.columns; ++k) {
    const double term =
        inputs.value(token, k) * group.weights[static_cast<size_t>(row * inputs.columns + k)];
    result.value += term;
    result.scale +=
        std::abs(term) + std::abs(inputs.value(token, k)) * largest_minimum(group.layout);
  }
  return result;
}

class BlockKernels : public testing::TestWithParam<std::tuple<const KernelTable*, int>> {
 protected:
  const KernelTable& table() const { return *std::get<0>(GetParam()); }
  int index() const { return std::get<1>(GetParam()); }
  const BlockLayout& layout() const { return kBlockLayouts[index()]; }
  const KernelTable::BlockKernels& kernel() const { return table().blocks[index()]; }

  /// One token times one group.
  void dot(const Group& group, const Inputs& inputs, int64_t token, float* out) const {
    kernel().dot({group.bytes.data(), group_size(inputs.columns), 1, inputs.columns / kBlockValues,
                  inputs_at(inputs.blocks, inputs.columns, token, 0),
                  inputs.starts(layout(), token), out});
  }
  int64_t group_size(int64_t columns) const {
    return columns / kBlockValues / layout().super_blocks * layout().super_bytes();
  }

  /// All tokens by way of panels of `step` columns, two groups (the same twice).
  std::vector<float> by_panels(const Group& group, const Inputs& inputs, int64_t tokens,
                               int64_t step) const {
    std::vector<float> out(static_cast<size_t>(tokens * 32));
    const auto panels = std::make_unique<CodePanel[]>(2);
    for (int64_t begin = 0; begin < inputs.columns; begin += step) {
      const int64_t count = std::min(step, inputs.columns - begin) / kBlockValues;
      for (size_t p = 0; p < 2; ++p)
        kernel().unpack(group.bytes.data(), begin / kBlockValues, count, panels[p]);
      kernel().multiply({panels.get(), 2, count, inputs_at(inputs.blocks, inputs.columns, 0, begin),
                         inputs.starts(layout(), 0, begin), inputs.columns, tokens,
                         begin > 0 ? out.data() : nullptr, 32, out.data(), 32});
    }
    return out;
  }
};

INSTANTIATE_TEST_SUITE_P(All, BlockKernels,
                         testing::Combine(testing::ValuesIn(usable_tables()),
                                          testing::Range(0, kBlockLayoutCount)),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param)->name) + "_" +
                                  kBlockLayouts[std::get<1>(info.param)].format;
                         });

TEST_P(BlockKernels, DotEqualsTheDefinitionUpToRounding) {
  const int64_t step = kBlockValues * layout().super_blocks;
  for (int pattern = 0; pattern < 5; ++pattern) {
    for (int64_t columns = step; columns <= 300 && columns <= 4 * step; columns += step) {
      const Group group(layout(), columns, pattern);
      for (int input = 0; input < 4; ++input) {
        const Inputs inputs(table(), input_pattern(input, columns), 1);
        Guarded<float> out(16);
        dot(group, inputs, 0, out.data());
        for (int64_t row = 0; row < 16; ++row) {
          const Expected want = expected(group, inputs, 0, row);
          ASSERT_NEAR(out[row], want.value, 2e-6 * want.scale + 1e-9)
              << pattern << " " << input << " " << columns;
        }
      }
    }
  }
}

TEST_P(BlockKernels, TwoGroupsGiveTheBitsOfEachAlone) {
  const int64_t columns = 768, size = group_size(columns);
  const Group first(layout(), columns, 0), second(layout(), columns, 1);
  std::vector<uint8_t> bytes(first.bytes.data(), first.bytes.data() + size);
  bytes.insert(bytes.end(), second.bytes.data(), second.bytes.data() + size);
  const Guarded<uint8_t> both(bytes);
  const Inputs inputs(table(), normal_values(columns, 5), 1);
  Guarded<float> together(2 * kGroupRows);
  kernel().dot({both.data(), size, 2, columns / kBlockValues, inputs.blocks,
                inputs.starts(layout()), together.data()});
  std::vector<float> apart(2 * kGroupRows);
  dot(first, inputs, 0, apart.data());
  dot(second, inputs, 0, apart.data() + kGroupRows);
  for (size_t row = 0; row < apart.size(); ++row)
    EXPECT_EQ(together[static_cast<int64_t>(row)], apart[row]) << row;
}

TEST_P(BlockKernels, TokensTogetherGiveTheBitsOfEachAlone) {
  if (kernel().dots == nullptr) return;
  const int64_t columns = 768, size = group_size(columns);
  const Group group(layout(), columns, 0);
  std::vector<uint8_t> bytes(group.bytes.data(), group.bytes.data() + size);
  bytes.insert(bytes.end(), group.bytes.data(), group.bytes.data() + size);
  const Guarded<uint8_t> both(bytes);
  for (int64_t tokens = 1; tokens <= table().dot_tokens; ++tokens) {
    const auto values = normal_values(tokens * columns, 5);
    const Inputs inputs(table(), values, tokens, {}, kSideBySide), apart(table(), values, tokens);
    Guarded<float> out(tokens * 2 * kGroupRows);
    kernel().dots({both.data(), size, 2, columns / kBlockValues, inputs.blocks,
                   inputs.starts(layout()), out.data(), tokens, 2 * kGroupRows});
    for (int64_t t = 0; t < tokens; ++t) {
      std::vector<float> one(kGroupRows);
      dot(group, apart, t, one.data());
      for (int64_t row = 0; row < 2 * kGroupRows; ++row) {
        ASSERT_EQ(out[t * 2 * kGroupRows + row], one[static_cast<size_t>(row % kGroupRows)])
            << tokens << " tokens, row " << row;
      }
    }
  }
}

TEST_P(BlockKernels, PanelsGiveTheSameBitsAsDots) {
  const int64_t columns = 768;
  const Group group(layout(), columns, 0);
  for (int64_t tokens = 1; tokens <= 14; ++tokens) {
    const auto values = normal_values(tokens * columns, 5);
    const Inputs inputs(table(), values, tokens, {}, kSideBySide), apart(table(), values, tokens);
    for (int64_t step : {int64_t{32}, int64_t{96}, kPanelValues}) {
      const auto out = by_panels(group, inputs, tokens, step);
      for (int64_t t = 0; t < tokens; ++t) {
        std::vector<float> one(16);
        dot(group, apart, t, one.data());
        for (size_t r = 0; r < 32; ++r) {
          ASSERT_EQ(out[static_cast<size_t>(t) * 32 + r], one[r % 16])
              << tokens << " tokens, row " << r;
        }
      }
    }
  }
}

TEST_P(BlockKernels, PanelsOfExtremesDoNotOverflow) {
  const int64_t columns = 256, tokens = 3;
  for (int pattern = 0; pattern < 5; ++pattern) {
    const Group group(layout(), columns, pattern);
    for (int input = 0; input < 4; ++input) {
      const Inputs inputs(table(), input_pattern(input, tokens * columns), tokens, {}, kSideBySide);
      const auto out = by_panels(group, inputs, tokens, kPanelValues);
      for (int64_t row = 0; row < 16; ++row) {
        const Expected want = expected(group, inputs, 2, row);
        ASSERT_NEAR(out[static_cast<size_t>(64 + row)], want.value, 2e-6 * want.scale + 1e-9)
            << pattern << input;
      }
    }
  }
}

TEST_P(BlockKernels, TilesHoldTheWeightsAsBfloats) {
  if (table().tiles == nullptr) return;  // no unit for matrices
  const int64_t columns = 768;
  const double minimum = largest_minimum(layout());
  for (int pattern = 0; pattern < 5; ++pattern) {
    const Group group(layout(), columns, pattern);
    for (int64_t first : {0, 5}) {
      const int64_t count = columns / kBlockValues - first;
      Guarded<uint16_t> panel(count * kBlockValues * kGroupRows);
      table().tiles->unpack[index()](group.bytes.data(), first, count, panel.data());
      for (int64_t i = 0; i < count * kBlockValues * kGroupRows; ++i) {
        const int64_t row = i % 32 / 2, k = i / 32 * 2 + i % 2 + first * kBlockValues;
        const double weight = group.weights[static_cast<size_t>(row * columns + k)];
        ASSERT_NEAR(bfloat16_to_float(panel[i]), weight,
                    std::abs(weight) / 256 + 1e-5 * minimum + 1e-4 * std::abs(weight))
            << pattern << " row " << row << " column " << k;
      }
    }
  }
}

using QuantizeInputs = EachTable;
INSTANTIATE_TEST_SUITE_P(Isa, QuantizeInputs, testing::ValuesIn(usable_tables()), table_name);

TEST_P(QuantizeInputs, CodesAreNearestAndSumsExact) {
  for (int64_t blocks = 1; blocks <= 12; ++blocks) {
    auto values = normal_values(blocks * 32, static_cast<uint32_t>(blocks));
    std::fill_n(values.begin(), 32, 0.0f);
    const Inputs inputs(*GetParam(), values, 1);
    EXPECT_EQ(inputs.blocks.scales[0], 0);
    for (int64_t i = 0; i < blocks * 32; ++i) {
      const double scale = inputs.blocks.scales[i / 32];
      EXPECT_NEAR(inputs.value(0, i), values[static_cast<size_t>(i)], 0.5001 * scale);
      EXPECT_LE(std::abs(inputs.blocks.codes[i]), 127);
    }
    for (int64_t i = 0; i < blocks * 2; ++i) {
      int32_t sum = 0;
      for (int64_t j = 0; j < 16; ++j) sum += inputs.blocks.codes[16 * i + j];
      EXPECT_EQ(inputs.blocks.less16[i], -sum);
      EXPECT_EQ(inputs.blocks.scaled_sums16[i],
                inputs.blocks.scales[i / 2] * static_cast<float>(sum));
    }
  }
}

TEST_P(QuantizeInputs, StartsOfMissingTokensMayBeAnything) {
  const int32_t less[] = {-40, INT32_MIN, INT32_MAX, 7};
  int32_t starts[4];
  GetParam()->start_sums(less, 4, 7, starts);
  EXPECT_EQ(starts[3] - starts[0], 47 * 128);
}

TEST_P(QuantizeInputs, OneScaleForATokenIsThatOfItsLargestValue) {
  auto values = normal_values(320, 4);
  values[200] = -25.4f;
  const Inputs inputs(*GetParam(), values, 1, {CodeScales::kToken});
  for (int64_t i = 0; i < 320; ++i) {
    EXPECT_FLOAT_EQ(inputs.blocks.scales[i / 32], 0.2f);
    EXPECT_NEAR(inputs.value(0, i), values[static_cast<size_t>(i)], 0.10001);
  }
  EXPECT_EQ(inputs.blocks.codes[200], -127);
}

TEST_P(QuantizeInputs, AGivenScaleCutsOff) {
  std::vector<float> values(64, 0.26f);
  values[3] = 1e30f;
  values[4] = -32;
  const Inputs inputs(*GetParam(), values, 1, {CodeScales::kGiven, 0.25f});
  EXPECT_EQ(inputs.blocks.codes[3], 127);
  EXPECT_EQ(inputs.blocks.codes[4], -127);
  EXPECT_EQ(inputs.blocks.codes[5], 1);
  EXPECT_EQ(inputs.blocks.scales[1], 0.25f);
  EXPECT_EQ(inputs.blocks.less32[0], -30);
  values[63] = NAN;
  EXPECT_FALSE(
      std::isfinite(Inputs(*GetParam(), values, 1, {CodeScales::kGiven, 0.25f}).blocks.scales[0]));
}

TEST_P(QuantizeInputs, NumbersThatAreNoneShowInTheScale) {
  for (float bad : {NAN, INFINITY, -INFINITY}) {
    std::vector<float> values(64, 1.0f);
    values[17] = bad;
    const Inputs inputs(*GetParam(), values, 1);
    EXPECT_FALSE(std::isfinite(inputs.blocks.scales[0]));
    EXPECT_EQ(inputs.blocks.scales[1], 1.0f / 127);
  }
}

TEST_P(QuantizeInputs, TinyValuesBecomeZero) {
  const Inputs inputs(*GetParam(), std::vector<float>(32, 1e-41f), 1);
  for (int i = 0; i < 32; ++i) EXPECT_EQ(inputs.blocks.codes[i], 0);
}

}  // namespace
}  // namespace fewbits
