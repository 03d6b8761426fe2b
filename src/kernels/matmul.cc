#include "kernels/matmul.h"

#include <algorithm>

#include "base/checked_math.h"
#include "base/error.h"
#include "formats/bit_planes.h"
#include "kernels/activations.h"
#include "kernels/packed_matrix.h"

namespace fewbits {
namespace {

/// Columns of a float panel: 16 rows of them take 16 KiB and stay in the first-level cache while
/// all tokens pass.
constexpr int64_t kFloatDepth = 256;
constexpr int64_t kFloatPanelBytes = kFloatDepth * kGroupRows * static_cast<int64_t>(sizeof(float));

/// Bytes of weights in one task: a few microseconds, so that the last task to end holds up nobody
/// for long.
constexpr int64_t kTaskBytes = 32768;

struct ScratchShape {
  int64_t group = 0;  ///< bytes of a group made on the fly
  int64_t panel = std::max<int64_t>(kFloatPanelBytes, sizeof(CodePanel));
  int64_t tile = 0;  ///< results of a last, partial group

  int64_t total() const { return group + panel + tile; }
};

ScratchShape scratch_shape(const PackedMatrix::Impl& matrix, int64_t tokens) {
  ScratchShape shape;
  if (matrix.packed.size() == 0) shape.group = round_up(matrix.group_size(), 64);
  if (matrix.rows() % kGroupRows != 0)
    shape.tile = tokens * kGroupRows * static_cast<int64_t>(sizeof(float));
  return shape;
}

/// Where the results of 16 rows go: out[token * stride + row].
struct Results {
  float* out;
  int64_t stride;
};

/// What a task works on.
struct Work {
  const PackedMatrix::Impl& matrix;
  const Activations::Impl& input;
  std::byte* panel;
};

/// Columns [begin, begin + count) of a group as floats [count][16].
const float* float_panel_of(const Work& work, const std::byte* group, int64_t begin,
                            int64_t count) {
  const int64_t first = begin * kGroupRows;
  if (work.matrix.layout.kind == GroupLayout::Kind::kF32)
    return reinterpret_cast<const float*>(group) + first;
  auto* panel = reinterpret_cast<float*>(work.panel);
  const bool ieee = work.matrix.layout.kind == GroupLayout::Kind::kF16;
  const auto convert = ieee ? kernels().halves_to_floats : kernels().bfloats_to_floats;
  convert(reinterpret_cast<const uint16_t*>(group) + first, count * kGroupRows, panel);
  return panel;
}

void multiply_floats(const Work& work, const std::byte* group, Results results) {
  const int64_t columns = work.matrix.columns();
  for (int64_t begin = 0; begin < columns; begin += kFloatDepth) {
    const int64_t depth = std::min(kFloatDepth, columns - begin);
    kernels().float_panel({.inputs = work.input.values + begin,
                           .input_stride = columns,
                           .tokens = work.input.tokens,
                           .panel = float_panel_of(work, group, begin, depth),
                           .depth = depth,
                           .out = results.out,
                           .out_stride = results.stride,
                           .accumulate = begin > 0});
  }
}

void multiply_blocks(const Work& work, const std::byte* group, Results results) {
  const int64_t columns = work.matrix.columns();
  const KernelTable::BlockKernels& kernel = kernels().blocks[work.matrix.layout.block_layout];
  const uint8_t* bytes = as_bytes(group);
  if (work.input.tokens == 1)
    return kernel.dot({bytes, columns / kBlockValues, work.input.blocks, results.out});

  auto& panel = *reinterpret_cast<CodePanel*>(work.panel);
  for (int64_t begin = 0; begin < columns; begin += kPanelValues) {
    const int64_t count = std::min(kPanelValues, columns - begin) / kBlockValues;
    kernel.unpack(bytes, begin / kBlockValues, count, panel);
    kernel.multiply({.panel = &panel,
                     .blocks = count,
                     .inputs = inputs_at(work.input.blocks, columns, 0, begin),
                     .columns = columns,
                     .tokens = work.input.tokens,
                     .out = results.out,
                     .out_stride = results.stride,
                     .accumulate = begin > 0});
  }
}

void multiply_group(const MatrixProduct& product, const Activations::Impl& input, int64_t index,
                    std::byte* scratch) {
  const PackedMatrix::Impl& matrix = product.weights->impl();
  const ScratchShape shape = scratch_shape(matrix, input.tokens);
  const Work work{matrix, input, scratch + shape.group};
  const std::byte* group = matrix.group(index, scratch);
  const auto multiply_them = matrix.layout.is_blocks() ? multiply_blocks : multiply_floats;
  const int64_t first = index * kGroupRows;
  const int64_t rows = std::min<int64_t>(kGroupRows, matrix.rows() - first);
  if (rows == kGroupRows)
    return multiply_them(work, group, {product.out + first, product.out_stride});

  auto* tile = reinterpret_cast<float*>(scratch + shape.group + shape.panel);
  multiply_them(work, group, {tile, kGroupRows});
  for (int64_t t = 0; t < input.tokens; ++t) {
    std::copy_n(tile + t * kGroupRows, rows, product.out + t * product.out_stride + first);
  }
}

void prepare_scratch(std::span<const MatrixProduct> products, Activations::Impl& input,
                     const ThreadPool& pool) {
  int64_t bytes = 0;
  for (const MatrixProduct& product : products) {
    bytes = std::max(bytes, scratch_shape(product.weights->impl(), input.tokens).total());
  }
  input.scratch.resize(std::max(input.scratch.size(), static_cast<size_t>(pool.threads())));
  for (HugeBuffer& buffer : input.scratch) buffer.reserve(bytes);
}

/// Groups of one task, by size alone. Many tokens make one group work enough.
int64_t groups_per_task(const PackedMatrix::Impl& matrix, int64_t tokens) {
  return std::max<int64_t>(1, kTaskBytes / (matrix.group_size() * tokens));
}

int64_t task_count(const MatrixProduct& product, int64_t tokens) {
  const PackedMatrix::Impl& matrix = product.weights->impl();
  return divide_up(matrix.groups(), groups_per_task(matrix, tokens));
}

}  // namespace

void multiply(std::span<const MatrixProduct> products, Activations& activations, ThreadPool& pool) {
  Activations::Impl& input = activations.impl();
  if (input.tokens == 0) return;
  int64_t tasks = 0;
  for (const MatrixProduct& product : products) {
    check(product.weights->columns() == input.columns &&
          product.out_stride >= product.weights->rows());
    if (product.weights->impl().layout.is_blocks()) input.make_blocks(pool);
    tasks += task_count(product, input.tokens);
  }
  prepare_scratch(products, input, pool);
  pool.run(tasks, [&](int64_t task, int thread) {
    const MatrixProduct* product = products.data();
    for (; task >= task_count(*product, input.tokens); ++product)
      task -= task_count(*product, input.tokens);
    const int64_t step = groups_per_task(product->weights->impl(), input.tokens);
    const int64_t end = std::min(product->weights->impl().groups(), (task + 1) * step);
    std::byte* scratch = input.scratch[static_cast<size_t>(thread)].data();
    for (int64_t group = task * step; group < end; ++group)
      multiply_group(*product, input, group, scratch);
  });
}

}  // namespace fewbits
