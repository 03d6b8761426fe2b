#include "kernels/matmul.h"

#include <algorithm>

#include "base/checked_math.h"
#include "base/error.h"
#include "formats/bit_planes.h"
#include "kernels/activations.h"
#include "kernels/float_matmul.h"
#include "kernels/packed_matrix.h"
#include "kernels/tile_matmul.h"

namespace fewbits {
namespace {

/// Bytes of weights in one task: a few microseconds, so that the last task to end holds up nobody
/// for long.
constexpr int64_t kTaskBytes = 32768;

/// Groups that are multiplied together.
constexpr int64_t kPair = 2;
constexpr int64_t kPairRows = kPair * kGroupRows;

struct ScratchShape {
  int64_t group = 0;  ///< bytes of a pair of groups made on the fly
  int64_t panel = kPair * sizeof(CodePanel);
  int64_t sums = 0;  ///< of all tokens and a pair's rows

  int64_t total() const { return group + panel + sums; }
};

ScratchShape scratch_shape(const PackedMatrix::Impl& matrix, int64_t tokens) {
  ScratchShape shape;
  if (matrix.packed.size() == 0) shape.group = kPair * round_up(matrix.group_size(), 64);
  shape.sums = tokens * kPairRows * static_cast<int64_t>(sizeof(float));
  return shape;
}

/// One or two groups, and where their results go: out[token * stride + row].
struct Pair {
  const std::byte* groups[kPair];
  int64_t count;
  float* out;
  int64_t stride;
  const float* row_scales;  ///< of the first group; null: none
};

/// What a task works on.
struct Work {
  const PackedMatrix::Impl& matrix;
  const Activations::Impl& input;
  CodePanel* panels;
  float* sums;
};

/// A few tokens times groups as they lie: their tile converts halves as it reads them.
template <class Value>
void multiply_in_place(const Work& work, const Pair& pair,
                       void (*kernel)(const PanelTask<Value>& task)) {
  const int64_t columns = work.matrix.columns();
  kernel({.inputs = work.input.values,
          .input_stride = columns,
          .tokens = work.input.tokens,
          .panel = reinterpret_cast<const Value*>(pair.groups[0]),
          .panel_stride = columns * kGroupRows,
          .panels = pair.count,
          .depth = columns,
          .out = pair.out,
          .out_stride = pair.stride,
          .accumulate = false});
}

void multiply_floats(const Work& work, const Pair& pair) {
  using Kind = GroupLayout::Kind;
  const Kind kind = work.matrix.layout.kind;
  if (kind == Kind::kF32) return multiply_in_place(work, pair, kernels().float_panel);
  if (kind == Kind::kF16) return multiply_in_place(work, pair, kernels().half_panel);
  return multiply_in_place(work, pair, kernels().bfloat_panel);
}

/// What follows the blocks before `end` of a pair: its next panel or the next pair's first one.
Ahead ahead_of(const PackedMatrix::Impl& matrix, const Pair& pair, int64_t end) {
  if (matrix.packed.size() == 0) return {};  // groups are made in the same scratch each time
  const int64_t size = matrix.group_size();
  const bool in_pair = end < matrix.columns();
  const int64_t offset = in_pair ? size * end / matrix.columns() : kPair * size;
  return {as_bytes(pair.groups[0]) + offset, size, size * kBlockValues / matrix.columns()};
}

/// Sums wait in scratch for the last panel: results lie a row of outputs apart, often a power of
/// two, where they would push each other out of the caches.
void multiply_blocks(const Work& work, const Pair& pair) {
  const int64_t columns = work.matrix.columns();
  const KernelTable::BlockKernels& kernel = kernels().blocks[work.matrix.layout.block_layout];
  for (int64_t begin = 0; begin < columns; begin += kPanelValues) {
    const int64_t count = std::min(kPanelValues, columns - begin) / kBlockValues;
    const bool last = begin + kPanelValues >= columns;
    for (int64_t i = 0; i < pair.count; ++i) {
      kernel.unpack(as_bytes(pair.groups[i]), begin / kBlockValues, count, work.panels[i]);
    }
    kernel.multiply({.panel = work.panels,
                     .panels = pair.count,
                     .blocks = count,
                     .inputs = inputs_at(work.input.blocks, columns, 0, begin),
                     .starts = work.input.starts_at(work.matrix.layout.blocks(), begin),
                     .columns = columns,
                     .tokens = work.input.tokens,
                     .before = begin > 0 ? work.sums : nullptr,
                     .before_stride = kPairRows,
                     .out = last ? pair.out : work.sums,
                     .out_stride = last ? pair.stride : kPairRows,
                     .ahead = ahead_of(work.matrix, pair, begin + kPanelValues)});
  }
}

void dot_blocks(const Work& work, const Pair& pair) {
  const PackedMatrix::Impl& matrix = work.matrix;
  const KernelTable::BlockKernels& kernel = kernels().blocks[matrix.layout.block_layout];
  const int64_t tokens = work.input.tokens;
  (tokens == 1 ? kernel.dot
               : kernel.dots)({.group = as_bytes(pair.groups[0]),
                               .group_stride = matrix.group_size(),
                               .groups = pair.count,
                               .blocks = matrix.columns() / kBlockValues,
                               .inputs = work.input.blocks,
                               .starts = work.input.starts_at(matrix.layout.blocks(), 0),
                               .out = pair.out,
                               .tokens = tokens,
                               .out_stride = pair.stride});
}

void scale_rows(const Work& work, const Pair& pair) {
  for (int64_t t = 0; t < work.input.tokens; ++t) {
    kernels().multiply(pair.out + t * pair.stride, pair.row_scales, pair.count * kGroupRows);
  }
}

void multiply_pair(const Work& work, const Pair& pair) {
  if (!work.matrix.layout.is_blocks()) return multiply_floats(work, pair);
  if (work.input.tokens <= kernels().dot_tokens) {
    dot_blocks(work, pair);
  } else {
    multiply_blocks(work, pair);
  }
  if (pair.row_scales != nullptr) scale_rows(work, pair);
}

/// Groups 2 * index and, where there is one, the next.
void multiply_pair_of(const MatrixProduct& product, const Activations::Impl& input, int64_t index,
                      std::byte* scratch) {
  const PackedMatrix::Impl& matrix = product.weights->impl();
  const ScratchShape shape = scratch_shape(matrix, input.tokens);
  const Work work{matrix, input, reinterpret_cast<CodePanel*>(scratch + shape.group),
                  reinterpret_cast<float*>(scratch + shape.group + shape.panel)};
  const int64_t first = index * kPairRows;
  Pair pair{{},
            std::min(kPair, matrix.groups() - index * kPair),
            product.out + first,
            product.out_stride,
            matrix.row_scales.empty() ? nullptr : matrix.row_scales.data() + first};
  for (int64_t i = 0; i < pair.count; ++i) {
    pair.groups[i] = matrix.group(index * kPair + i, scratch + i * matrix.group_size());
  }
  const int64_t rows = std::min(pair.count * kGroupRows, matrix.rows() - first);
  if (rows == pair.count * kGroupRows) return multiply_pair(work, pair);

  pair.out = work.sums;
  pair.stride = kPairRows;
  multiply_pair(work, pair);
  for (int64_t t = 0; t < input.tokens; ++t) {
    std::copy_n(pair.out + t * kPairRows, rows, product.out + t * product.out_stride + first);
  }
}

int64_t pairs(const PackedMatrix::Impl& matrix) {
  return divide_up(matrix.groups(), kPair);
}

/// Pairs of groups of one task, by size alone. Many tokens make one pair work enough.
int64_t pairs_per_task(const PackedMatrix::Impl& matrix, int64_t tokens) {
  return std::max<int64_t>(1, kTaskBytes / (kPair * matrix.group_size() * tokens));
}

void multiply_pairs(const MatrixProduct& product, const Activations::Impl& input, int64_t task,
                    std::byte* scratch) {
  const PackedMatrix::Impl& matrix = product.weights->impl();
  const int64_t step = pairs_per_task(matrix, input.tokens);
  const int64_t end = std::min(pairs(matrix), (task + 1) * step);
  for (int64_t pair = task * step; pair < end; ++pair)
    multiply_pair_of(product, input, pair, scratch);
}

/// The three ways of a product.
enum class Way : uint8_t { kPairs, kFloatStrips, kTiles };

Way way_of(const PackedMatrix::Impl& matrix, const Activations::Impl& input) {
  if (tile_form(matrix, input) != TileForm::kNone) return Way::kTiles;
  return go_by_float_strips(matrix, input) ? Way::kFloatStrips : Way::kPairs;
}

int64_t task_count(const PackedMatrix::Impl& matrix, const Activations::Impl& input) {
  switch (way_of(matrix, input)) {
    case Way::kTiles:
      return tile_strips(matrix, input);
    case Way::kFloatStrips:
      return float_strips(matrix, input);
    case Way::kPairs:
      break;
  }
  return divide_up(pairs(matrix), pairs_per_task(matrix, input.tokens));
}

int64_t scratch_bytes(const PackedMatrix::Impl& matrix, const Activations::Impl& input) {
  switch (way_of(matrix, input)) {
    case Way::kTiles:
      return tile_scratch_bytes(matrix, input);
    case Way::kFloatStrips:
      return float_scratch_bytes(matrix, input);
    case Way::kPairs:
      break;
  }
  return scratch_shape(matrix, input.tokens).total();
}

void prepare_input(const PackedMatrix::Impl& matrix, Activations::Impl& input, ThreadPool& pool) {
  const Way way = way_of(matrix, input);
  if (way == Way::kTiles) {
    input.make_tiles(tile_form(matrix, input), pool);
  } else if (way == Way::kFloatStrips) {
    input.make_side_by_side(pool);
  } else if (matrix.layout.is_blocks()) {
    input.make_blocks(pool);
    input.make_starts(matrix.layout.blocks());
  }
}

void multiply_task(const MatrixProduct& product, const Activations::Impl& input, int64_t task,
                   std::byte* scratch) {
  switch (way_of(product.weights->impl(), input)) {
    case Way::kTiles:
      return multiply_strip(product, input, task, scratch);
    case Way::kFloatStrips:
      return multiply_float_strip(product, input, task, scratch);
    case Way::kPairs:
      return multiply_pairs(product, input, task, scratch);
  }
}

void prepare_scratch(std::span<const MatrixProduct> products, Activations::Impl& input,
                     const ThreadPool& pool) {
  int64_t bytes = 0;
  for (const MatrixProduct& product : products) {
    bytes = std::max(bytes, scratch_bytes(product.weights->impl(), input));
  }
  input.scratch.resize(std::max(input.scratch.size(), static_cast<size_t>(pool.threads())));
  for (HugeBuffer& buffer : input.scratch) buffer.reserve(bytes);
}

}  // namespace

void multiply(std::span<const MatrixProduct> products, Activations& activations, ThreadPool& pool) {
  Activations::Impl& input = activations.impl();
  if (input.tokens == 0) return;
  input.threads = pool.threads();
  int64_t tasks = 0;
  for (const MatrixProduct& product : products) {
    check(product.weights->columns() == input.columns &&
          product.out_stride >= product.weights->rows());
    prepare_input(product.weights->impl(), input, pool);
    tasks += task_count(product.weights->impl(), input);
  }
  prepare_scratch(products, input, pool);
  pool.run(tasks, [&](int64_t task, int thread) {
    const MatrixProduct* product = products.data();
    for (; task >= task_count(product->weights->impl(), input); ++product)
      task -= task_count(product->weights->impl(), input);
    std::byte* scratch = input.scratch[static_cast<size_t>(thread)].data();
    multiply_task(*product, input, task, scratch);
  });
}

}  // namespace fewbits
