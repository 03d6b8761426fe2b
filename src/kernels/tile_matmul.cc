#include "kernels/tile_matmul.h"

#include <algorithm>
#include <bit>
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

/// Steps of a panel: two panels stay in the first-level cache while all tokens pass, and the more
/// there are, the seldomer sums leave the tiles.
constexpr int64_t kSteps = 16;
constexpr int64_t kPanelBytes = kSteps * kTileBytes;
/// Of what rounding leaves of a panel, where it is in two parts: each of half as many steps.
constexpr int64_t kRest = kPanelBytes / 2;

/// The more rows share the inputs that come from the third-level cache, the better; strips enough
/// to go round are better still. No result depends on them.
constexpr int64_t kMostGroups = 16;
constexpr int64_t kStripsPerThread = 4;

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
    group = matrix.packed.size() == 0 ? round_up(matrix.group_size(), 64) : 0;
    groups = count * group;
  }
  int64_t total() const { return sums + panels + floats + groups; }

  static constexpr int64_t kFloat = sizeof(float);
  int64_t sums;  ///< [pair of groups][token tile][2][16][16]
  int64_t panels = 2 * kPanelBytes;
  int64_t floats = 2 * kPanelBytes;  ///< one panel's
  int64_t group, groups;             ///< of a matrix that is not packed
};

struct Scratch {
  Scratch(const ScratchShape& shape, std::byte* memory)
      : sums(reinterpret_cast<float*>(memory)),
        panels(memory + shape.sums),
        floats(reinterpret_cast<float*>(panels + shape.panels)),
        groups(panels + shape.panels + shape.floats) {}

  float* sums;
  std::byte* panels;
  float* floats;
  std::byte* groups;
};

/// One strip of one matrix.
struct Strip {
  const PackedMatrix::Impl& matrix;
  const Activations::Impl& input;
  TileForm form;
  int64_t first_group, groups;
  ScratchShape shape;
  Scratch scratch;

  const std::byte* group(int64_t index) const {
    if (matrix.packed.size() > 0) return matrix.group(first_group + index, nullptr);
    return scratch.groups + index * shape.group;
  }
  int64_t columns_of_step() const { return form == TileForm::kCodes ? kTileCodes : kTileColumns; }
  int64_t steps() const { return matrix.columns() / columns_of_step(); }
};

/// The tokens that pass at once.
struct Tokens {
  int64_t first, count;
  int64_t tiles() const { return tiles_of(count); }
};

/// Of a row of tiles, or of the panels of a strip.
struct Steps {
  int64_t begin, count;
};

void make_float_panel(const Strip& strip, const std::byte* group, Steps steps, int64_t place) {
  const bool halves = strip.matrix.layout.kind == Kind::kF16;
  const int64_t begin = steps.begin * kTileColumns, depth = steps.count * kTileColumns;
  const auto convert = halves ? kernels().halves_to_floats : kernels().bfloats_to_floats;
  convert(reinterpret_cast<const uint16_t*>(group) + begin * kGroupRows, depth * kGroupRows,
          strip.scratch.floats);
  kernels().tiles->tile_weights(strip.scratch.floats, depth,
                                {reinterpret_cast<uint16_t*>(strip.scratch.panels + place),
                                 kRest / static_cast<int64_t>(sizeof(uint16_t)), halves ? 2 : 1});
}

/// A group as a panel, in the place of its parity.
void make_panel(const Strip& strip, int64_t index, Steps steps) {
  const TileKernels& tiles = *kernels().tiles;
  const GroupLayout layout = strip.matrix.layout;
  const std::byte* group = strip.group(index);
  const int64_t place = index % 2 * kPanelBytes;
  if (!layout.is_blocks()) return make_float_panel(strip, group, steps, place);
  const int64_t blocks = strip.columns_of_step() / kBlockValues;
  const int64_t first = steps.begin * blocks, count = steps.count * blocks;
  std::byte* panel = strip.scratch.panels + place;
  if (strip.form == TileForm::kCodes) {
    tiles.unpack_codes[layout.block_layout](as_bytes(group), first, count,
                                            reinterpret_cast<int8_t*>(panel));
  } else {
    tiles.unpack[layout.block_layout](as_bytes(group), first, count,
                                      reinterpret_cast<uint16_t*>(panel));
  }
}

/// Both parts of inputs times both of weights; weights of BF16 have but one.
void add_terms(const Strip& strip, TileTask& task) {
  const int64_t rest = tiles_of(strip.input.tokens) * task.input_stride;
  task.terms[1] = {rest, 0};
  task.terms[2] = {rest, kRest};
  task.terms[3] = {0, kRest};
  task.term_count = strip.matrix.layout.kind == Kind::kF16 ? 4 : 2;
}

/// A pair of panels times all tokens, added to their sums.
void add_products(const Strip& strip, Tokens tokens, int64_t pair, Steps steps) {
  const int64_t stride = strip.input.tile_stride(strip.form);
  const uint8_t* panels = as_bytes(strip.scratch.panels);
  // An odd group's neighbour is itself; those sums are not read.
  const bool both = 2 * pair + 1 < strip.groups;
  TileTask task{.inputs = strip.input.tile_data(strip.form) + tokens.first / kTileTokens * stride +
                          steps.begin * kTileBytes,
                .input_stride = stride,
                .token_tiles = tokens.tiles(),
                .panels = {panels, both ? panels + kPanelBytes : panels},
                .steps = steps.count,
                .out = strip.scratch.sums + pair * 2 * tokens.tiles() * kTileSums,
                .accumulate = steps.begin > 0};
  if (strip.form == TileForm::kParts) add_terms(strip, task);
  const TileKernels& tiles = *kernels().tiles;
  (strip.form == TileForm::kCodes ? tiles.multiply_codes : tiles.multiply_bfloats)(task);
}

/// 16 rows of one token, as numbers: sums of codes are scaled.
void store_row(const Strip& strip, int64_t token, const float* sums, int64_t count, float* out) {
  const bool codes = strip.form == TileForm::kCodes;
  if (codes || strip.form == TileForm::kIntegers) {
    const float scale = strip.input.blocks.scales[token * (strip.input.columns / kBlockValues)];
    for (int64_t i = 0; i < count; ++i)
      out[i] = (codes ? static_cast<float>(std::bit_cast<int32_t>(sums[i])) : sums[i]) * scale;
  } else if (count == kGroupRows) {
    std::memcpy(out, sums, kGroupRows * sizeof(float));  // a size that the compiler knows
  } else {
    std::copy_n(sums, count, out);
  }
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
    for (int64_t row = 0; row < rows; row += kGroupRows) {
      const int64_t group = row / kGroupRows;
      store_row(strip, tokens.first + t, sums + group / 2 * pair + group % 2 * kTileSums,
                std::min<int64_t>(kGroupRows, rows - row), out + row);
    }
    if (!strip.matrix.row_scales.empty())
      kernels().multiply(out, strip.matrix.row_scales.data() + first, rows);
  }
}

void multiply_tokens(const MatrixProduct& product, const Strip& strip, Tokens tokens) {
  const int64_t most = strip.form == TileForm::kParts ? kSteps / 2 : kSteps;
  for (int64_t begin = 0; begin < strip.steps(); begin += most) {
    const Steps steps{begin, std::min(most, strip.steps() - begin)};
    for (int64_t i = 0; i < strip.groups; ++i) {
      make_panel(strip, i, steps);
      if (i % 2 == 1 || i + 1 == strip.groups) add_products(strip, tokens, i / 2, steps);
    }
  }
  store_sums(strip, tokens, product);
}

}  // namespace

bool go_by_tiles(int64_t tokens) {
  return kernels().tiles != nullptr && tokens >= kLeastTokens;
}

TileForm tile_form(const PackedMatrix::Impl& matrix, const Activations::Impl& input) {
  const GroupLayout layout = matrix.layout;
  if (!go_by_tiles(input.tokens)) return TileForm::kNone;
  if (layout.kind == Kind::kF32 || input.columns % kTileColumns != 0) return TileForm::kNone;
  if (!layout.is_blocks()) return TileForm::kParts;
  if (input.scales.of == CodeScales::kBlock) return TileForm::kRounded;
  const bool whole = layout.scales_rows() && input.columns % kTileCodes == 0;
  return whole ? TileForm::kCodes : TileForm::kIntegers;
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
  const Strip strip{matrix,
                    input,
                    tile_form(matrix, input),
                    first,
                    std::min(step, matrix.groups() - first),
                    shape,
                    {shape, memory}};
  if (matrix.packed.size() == 0) {
    for (int64_t i = 0; i < strip.groups; ++i)
      matrix.group(first + i, strip.scratch.groups + i * shape.group);
  }
  for (int64_t token = 0; token < input.tokens; token += kTokensAtOnce)
    multiply_tokens(product, strip, {token, std::min(kTokensAtOnce, input.tokens - token)});
}

}  // namespace fewbits
