#include "kernels/float_matmul.h"

#include <algorithm>

#include "base/checked_math.h"

namespace fewbits {
namespace {

using Kind = GroupLayout::Kind;

/// Groups that are multiplied together.
constexpr int64_t kPair = 2;
constexpr int64_t kPairRows = kPair * kGroupRows;

/// Columns of a panel: 16 rows of them take 16 KiB, so that two panels stay in the first-level
/// cache.
constexpr int64_t kDepth = 256;
constexpr int64_t kPanelFloats = kDepth * kGroupRows;

/// So many tokens pass at once: their values for a panel take a quarter of a megabyte.
constexpr int64_t kTokensAtOnce = 20 * kSideBySide;

/// The more rows share these values the better; strips enough to go round are better still. No
/// result depends on them.
constexpr int64_t kMostGroups = 16;
constexpr int64_t kStripsPerThread = 4;

/// All values of so few tokens stay there anyway: then weights are best read in one go.
constexpr int64_t kOneGoTokens = 2 * kSideBySide;

int64_t groups_per_strip(const PackedMatrix::Impl& matrix, const Activations::Impl& input) {
  if (input.tokens <= kOneGoTokens) return kPair;
  const int64_t share = divide_up(matrix.groups(), kStripsPerThread * input.threads);
  return std::clamp(round_up(share, kPair), kPair, kMostGroups);
}

/// Bytes of what a strip needs, in the order in which it lies there.
struct ScratchShape {
  ScratchShape(const PackedMatrix::Impl& matrix, const Activations::Impl& input) {
    constexpr int64_t kFloat = sizeof(float);
    if (matrix.layout.kind != Kind::kF32) panels = kPair * kPanelFloats * kFloat;
    if (matrix.rows() % kPairRows != 0)
      partial = std::min(input.tokens, kTokensAtOnce) * kPairRows * kFloat;
    if (matrix.packed.size() == 0) {
      group = round_up(matrix.group_size(), 64);
      groups = groups_per_strip(matrix, input) * group;
    }
  }
  int64_t total() const { return panels + partial + groups; }

  int64_t panels = 0;             ///< of a pair, as floats
  int64_t partial = 0;            ///< results of a last pair that is none
  int64_t group = 0, groups = 0;  ///< of a matrix that is not packed
};

/// One strip of one product.
struct Strip {
  const MatrixProduct& product;
  const PackedMatrix::Impl& matrix;
  const Activations::Impl& input;
  int64_t first_group, groups;
  ScratchShape shape;
  std::byte* scratch;

  float* panels() const { return reinterpret_cast<float*>(scratch); }
  float* partial() const { return reinterpret_cast<float*>(scratch + shape.panels); }
  std::byte* made_group(int64_t index) const {
    return scratch + shape.panels + shape.partial + index * shape.group;
  }
  const std::byte* group(int64_t index) const {
    if (matrix.packed.size() > 0) return matrix.group(first_group + index, nullptr);
    return made_group(index);
  }
};

struct Range {
  int64_t begin, count;
};

/// Panels of a pair of groups: [depth][16] floats each.
struct Panels {
  const float* first;
  int64_t stride;
};

/// Floats lie as the kernel wants them; halves become floats.
Panels panels_of(const Strip& strip, int64_t group, int64_t groups, Range columns) {
  const int64_t place = columns.begin * kGroupRows;
  if (strip.matrix.layout.kind == Kind::kF32) {
    const auto* first = reinterpret_cast<const float*>(strip.group(group));
    return {first + place, strip.matrix.columns() * kGroupRows};
  }
  const auto convert = strip.matrix.layout.kind == Kind::kF16 ? kernels().halves_to_floats
                                                              : kernels().bfloats_to_floats;
  for (int64_t i = 0; i < groups; ++i) {
    convert(reinterpret_cast<const uint16_t*>(strip.group(group + i)) + place,
            columns.count * kGroupRows, strip.panels() + i * kPanelFloats);
  }
  return {strip.panels(), kPanelFloats};
}

/// A pair of groups, or a last one, times some columns of some tokens.
void multiply_pair(const Strip& strip, int64_t group, Range tokens, Range columns) {
  const int64_t groups = std::min(kPair, strip.groups - group);
  const int64_t row = (strip.first_group + group) * kGroupRows;
  const int64_t rows = std::min(groups * kGroupRows, strip.matrix.rows() - row);
  const bool whole = rows == groups * kGroupRows;
  const auto [panel, stride] = panels_of(strip, group, groups, columns);
  float* out = strip.product.out + tokens.begin * strip.product.out_stride + row;
  const int64_t all = strip.matrix.columns();
  kernels().float_strip(
      {.inputs = strip.input.side_by_side(tokens.begin) + columns.begin * kSideBySide,
       .input_stride = all * kSideBySide,
       .tokens = tokens.count,
       .panel = panel,
       .panel_stride = stride,
       .panels = groups,
       .depth = columns.count,
       .out = whole ? out : strip.partial(),
       .out_stride = whole ? strip.product.out_stride : kPairRows,
       .accumulate = columns.begin > 0});
  if (whole || columns.begin + columns.count < all) return;
  for (int64_t t = 0; t < tokens.count; ++t)
    std::copy_n(strip.partial() + t * kPairRows, rows, out + t * strip.product.out_stride);
}

}  // namespace

bool go_by_float_strips(const PackedMatrix::Impl& matrix, const Activations::Impl& input) {
  return !matrix.layout.is_blocks() && input.tokens > kernels().float_tile_tokens;
}

int64_t float_strips(const PackedMatrix::Impl& matrix, const Activations::Impl& input) {
  return divide_up(matrix.groups(), groups_per_strip(matrix, input));
}

int64_t float_scratch_bytes(const PackedMatrix::Impl& matrix, const Activations::Impl& input) {
  return ScratchShape(matrix, input).total();
}

void multiply_float_strip(const MatrixProduct& product, const Activations::Impl& input,
                          int64_t index, std::byte* scratch) {
  const PackedMatrix::Impl& matrix = product.weights->impl();
  const int64_t step = groups_per_strip(matrix, input), first = index * step;
  const Strip strip{product,         matrix, input, first, std::min(step, matrix.groups() - first),
                    {matrix, input}, scratch};
  if (matrix.packed.size() == 0) {
    for (int64_t i = 0; i < strip.groups; ++i) matrix.group(first + i, strip.made_group(i));
  }
  for (int64_t token = 0; token < input.tokens; token += kTokensAtOnce) {
    const Range tokens{token, std::min(kTokensAtOnce, input.tokens - token)};
    for (int64_t column = 0; column < matrix.columns(); column += kDepth) {
      const Range columns{column, std::min(kDepth, matrix.columns() - column)};
      for (int64_t group = 0; group < strip.groups; group += kPair)
        multiply_pair(strip, group, tokens, columns);
    }
  }
}

}  // namespace fewbits
