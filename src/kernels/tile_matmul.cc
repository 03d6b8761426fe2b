#include "kernels/tile_matmul.h"

#include <algorithm>
#include <cstring>

#include "base/checked_math.h"
#include "formats/bit_planes.h"

namespace fewbits {
namespace {

using Kind = GroupLayout::Kind;

/// With fewer tokens, making the panels takes longer than the integer product.
constexpr int64_t kLeastTokens = 16;

/// So many tokens pass through a panel once it is made. Their sums for a strip and their inputs for
/// a panel stay in the second-level cache together.
constexpr int64_t kTokensAtOnce = 512;

/// Columns of a panel: two of them stay in the first-level cache while all tokens pass, and the
/// more there are, the seldomer sums leave the tiles.
constexpr int64_t kDepth = 512;
constexpr int64_t kPanelSize = kDepth * kGroupRows;  ///< bfloats

/// The more rows share the inputs that come from the third-level cache, the better; strips enough
/// to go round are better still. No result depends on them.
constexpr int64_t kMostGroups = 16;
constexpr int64_t kStripsPerThread = 4;

constexpr int64_t kTileSums = kTileTokens * kGroupRows;

int64_t groups_per_strip(const PackedMatrix::Impl& matrix, const Activations::Impl& input) {
  const int64_t share = divide_up(matrix.groups(), kStripsPerThread * input.threads);
  return std::clamp(round_up(share, 2), int64_t{2}, kMostGroups);
}

int64_t tiles_of(int64_t tokens) {
  return divide_up(tokens, kTileTokens);
}

/// Bytes of what a strip needs, in the order in which it lies there.
struct ScratchShape {
  ScratchShape(const PackedMatrix::Impl& matrix, const Activations::Impl& input) {
    const int64_t count = groups_per_strip(matrix, input);
    sums = count * tiles_of(std::min(input.tokens, kTokensAtOnce)) * kTileSums * kFloat;
    panels = 2 * kPanelSize * kBFloat;
    floats = kPanelSize * kFloat;
    group = matrix.packed.size() == 0 ? round_up(matrix.group_size(), 64) : 0;
    groups = count * group;
  }
  int64_t total() const { return sums + 2 * panels + floats + groups; }

  static constexpr int64_t kFloat = sizeof(float), kBFloat = sizeof(uint16_t);
  int64_t sums;           ///< floats [pair of groups][token tile][2][16][16]
  int64_t panels;         ///< bfloats [2][kPanelSize], rounded; and as many that rounding leaves
  int64_t floats;         ///< [kPanelSize]
  int64_t group, groups;  ///< of a matrix that is not packed
};

struct Scratch {
  Scratch(const ScratchShape& shape, std::byte* memory)
      : sums(reinterpret_cast<float*>(memory)),
        panels(reinterpret_cast<uint16_t*>(memory + shape.sums)),
        rests(reinterpret_cast<uint16_t*>(memory + shape.sums + shape.panels)),
        floats(reinterpret_cast<float*>(memory + shape.sums + 2 * shape.panels)),
        groups(memory + shape.sums + 2 * shape.panels + shape.floats) {}

  float* sums;
  uint16_t* panels;
  uint16_t* rests;
  float* floats;
  std::byte* groups;
};

/// One strip of one matrix.
struct Strip {
  const PackedMatrix::Impl& matrix;
  const Activations::Impl& input;
  int64_t first_group, groups;
  ScratchShape shape;
  Scratch scratch;

  const std::byte* group(int64_t index) const {
    if (matrix.packed.size() > 0) return matrix.group(first_group + index, nullptr);
    return scratch.groups + index * shape.group;
  }
};

/// The tokens that pass at once.
struct Tokens {
  int64_t first, count;
  int64_t tiles() const { return tiles_of(count); }
};

/// Columns [begin, begin + depth) of a group as bfloats, in the place of its parity.
void make_panel(const Strip& strip, int64_t index, int64_t begin, int64_t depth) {
  const GroupLayout layout = strip.matrix.layout;
  const TileKernels& tiles = *kernels().tiles;
  const std::byte* group = strip.group(index);
  uint16_t* panel = strip.scratch.panels + index % 2 * kPanelSize;
  if (layout.is_blocks()) {
    tiles.unpack[layout.block_layout](as_bytes(group), begin / kBlockValues, depth / kBlockValues,
                                      panel);
    return;
  }
  const bool halves = layout.kind == Kind::kF16;
  const auto convert = halves ? kernels().halves_to_floats : kernels().bfloats_to_floats;
  convert(reinterpret_cast<const uint16_t*>(group) + begin * kGroupRows, depth * kGroupRows,
          strip.scratch.floats);
  tiles.tile_weights(strip.scratch.floats, depth, panel,
                     halves ? strip.scratch.rests + index % 2 * kPanelSize : nullptr);
}

/// A pair of panels times all tokens, added to their sums.
void add_products(const Strip& strip, Tokens tokens, int64_t pair, int64_t begin, int64_t depth) {
  const int64_t tiles = tokens.tiles(), columns = strip.matrix.columns();
  // An odd group's neighbour is itself; those sums are not read.
  const int64_t second = 2 * pair + 1 < strip.groups ? kPanelSize : 0;
  const int64_t at = tokens.first * columns + begin * kTileTokens;
  TileTask task{.inputs = strip.input.tiles.rounded + at,
                .input_stride = columns * kTileTokens,
                .token_tiles = tiles,
                .panels = {strip.scratch.panels, strip.scratch.panels + second},
                .depth = depth,
                .out = strip.scratch.sums + pair * 2 * tiles * kTileSums,
                .accumulate = begin > 0};
  const auto multiply = kernels().tiles->multiply;
  multiply(task);
  if (strip.matrix.layout.is_blocks()) return;
  task.accumulate = true;
  task.inputs = strip.input.tiles.rest + at;
  multiply(task);
  if (strip.matrix.layout.kind != Kind::kF16) return;
  task.panels[0] = strip.scratch.rests;
  task.panels[1] = strip.scratch.rests + second;
  multiply(task);
  task.inputs = strip.input.tiles.rounded + at;
  multiply(task);
}

/// The sums to where they belong: a token's run of rows at a time, which lies in one place.
void store_sums(const Strip& strip, Tokens tokens, const MatrixProduct& product) {
  const int64_t first = strip.first_group * kGroupRows;
  const int64_t rows = std::min(strip.groups * kGroupRows, strip.matrix.rows() - first);
  const int64_t pair = 2 * tokens.tiles() * kTileSums;
  for (int64_t t = 0; t < tokens.count; ++t) {
    const float* sums =
        strip.scratch.sums + t / kTileTokens * 2 * kTileSums + t % kTileTokens * kGroupRows;
    float* out = product.out + (tokens.first + t) * product.out_stride + first;
    for (int64_t row = 0; row + kGroupRows <= rows; row += kGroupRows) {
      const int64_t group = row / kGroupRows;
      std::memcpy(out + row, sums + group / 2 * pair + group % 2 * kTileSums,
                  kGroupRows * sizeof(float));
    }
    const int64_t whole = rows / kGroupRows, rest = rows % kGroupRows;
    std::copy_n(sums + whole / 2 * pair + whole % 2 * kTileSums, rest, out + whole * kGroupRows);
    if (!strip.matrix.row_scales.empty())
      kernels().multiply(out, strip.matrix.row_scales.data() + first, rows);
  }
}

void multiply_tokens(const MatrixProduct& product, const Strip& strip, Tokens tokens) {
  const int64_t columns = strip.matrix.columns();
  for (int64_t begin = 0; begin < columns; begin += kDepth) {
    const int64_t depth = std::min(kDepth, columns - begin);
    for (int64_t i = 0; i < strip.groups; ++i) {
      make_panel(strip, i, begin, depth);
      if (i % 2 == 1 || i + 1 == strip.groups) add_products(strip, tokens, i / 2, begin, depth);
    }
  }
  store_sums(strip, tokens, product);
}

}  // namespace

bool multiplies_tiles(const PackedMatrix::Impl& matrix, const Activations::Impl& input) {
  if (kernels().tiles == nullptr || input.tokens < kLeastTokens) return false;
  if (matrix.layout.kind == Kind::kF32 || matrix.columns() % kTileColumns != 0) return false;
  // Inputs that were asked to be int8 are multiplied as int8.
  return !matrix.layout.is_blocks() || input.scales.of == CodeScales::kBlock;
}

int64_t tile_strips(const PackedMatrix::Impl& matrix, const Activations::Impl& input) {
  return divide_up(matrix.groups(), groups_per_strip(matrix, input));
}

int64_t tile_scratch_bytes(const PackedMatrix::Impl& matrix, const Activations::Impl& input) {
  return ScratchShape(matrix, input).total();
}

void multiply_strip(const MatrixProduct& product, const Activations::Impl& input, int64_t index,
                    std::byte* memory) {
  const PackedMatrix::Impl& matrix = product.weights->impl();
  const int64_t step = groups_per_strip(matrix, input), first = index * step;
  const ScratchShape shape(matrix, input);
  const Strip strip{matrix, input,          first, std::min(step, matrix.groups() - first),
                    shape,  {shape, memory}};
  if (matrix.packed.size() == 0) {
    for (int64_t i = 0; i < strip.groups; ++i)
      matrix.group(first + i, strip.scratch.groups + i * shape.group);
  }
  for (int64_t token = 0; token < input.tokens; token += kTokensAtOnce)
    multiply_tokens(product, strip, {token, std::min(kTokensAtOnce, input.tokens - token)});
}

}  // namespace fewbits
