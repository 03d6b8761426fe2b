#include "kernels/matmul.h"

#include <algorithm>
#include <cstring>

#include "base/checked_math.h"
#include "base/error.h"
#include "kernels/activations.h"
#include "kernels/packed_matrix.h"

namespace fewbits {
namespace {

/// Columns of a float panel: 16 rows of them take 16 KiB and stay in the first-level cache while
/// all tokens pass.
constexpr int64_t kFloatDepth = 256;

/// Where a task of one product finds its things.
struct Task {
  const PackedMatrix::Impl& matrix;
  const Activations::Impl& input;
  float* out;
  int64_t out_stride;
  std::byte* scratch;
};

struct ScratchShape {
  int64_t group = 0;  ///< bytes of a group made on the fly
  int64_t panel = kFloatDepth * kGroupRows * static_cast<int64_t>(sizeof(float));
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

/// Columns [begin, begin + count) of a group as floats [count][16].
const float* float_panel_of(const std::byte* group, GroupLayout layout, int64_t begin,
                            int64_t count, float* panel) {
  const int64_t first = begin * kGroupRows;
  if (layout == GroupLayout::kF32) return reinterpret_cast<const float*>(group) + first;
  const auto* halves = reinterpret_cast<const uint16_t*>(group) + first;
  const auto convert =
      layout == GroupLayout::kF16 ? kernels().halves_to_floats : kernels().bfloats_to_floats;
  convert(halves, count * kGroupRows, panel);
  return panel;
}

/// All tokens times one group; `out` has room for 16 values of each token.
void float_group(const Task& task, const std::byte* group, float* panel, float* out,
                 int64_t out_stride) {
  const int64_t columns = task.matrix.columns();
  for (int64_t begin = 0; begin < columns; begin += kFloatDepth) {
    const int64_t depth = std::min(kFloatDepth, columns - begin);
    kernels().float_panel({.inputs = task.input.values + begin,
                           .input_stride = columns,
                           .tokens = task.input.tokens,
                           .panel = float_panel_of(group, task.matrix.layout, begin, depth, panel),
                           .depth = depth,
                           .out = out,
                           .out_stride = out_stride,
                           .accumulate = begin > 0});
  }
}

void multiply_group(const Task& task, int64_t index) {
  const ScratchShape shape = scratch_shape(task.matrix, task.input.tokens);
  auto* panel = reinterpret_cast<float*>(task.scratch + shape.group);
  const std::byte* group = task.matrix.group(index, task.scratch);
  const int64_t first = index * kGroupRows;
  const int64_t rows = std::min<int64_t>(kGroupRows, task.matrix.rows() - first);
  if (rows == kGroupRows) return float_group(task, group, panel, task.out + first, task.out_stride);

  auto* tile = reinterpret_cast<float*>(task.scratch + shape.group + shape.panel);
  float_group(task, group, panel, tile, kGroupRows);
  for (int64_t t = 0; t < task.input.tokens; ++t) {
    std::copy_n(tile + t * kGroupRows, rows, task.out + t * task.out_stride + first);
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

}  // namespace

void multiply(std::span<const MatrixProduct> products, Activations& activations, ThreadPool& pool) {
  Activations::Impl& input = activations.impl();
  if (input.tokens == 0) return;
  int64_t tasks = 0;
  for (const MatrixProduct& product : products) {
    check(product.weights->columns() == input.columns &&
          product.out_stride >= product.weights->rows());
    tasks += product.weights->impl().groups();
  }
  prepare_scratch(products, input, pool);
  pool.run(tasks, [&](int64_t index, int thread) {
    const MatrixProduct* product = products.data();
    for (; index >= product->weights->impl().groups(); ++product)
      index -= product->weights->impl().groups();
    std::byte* scratch = input.scratch[static_cast<size_t>(thread)].data();
    multiply_group({product->weights->impl(), input, product->out, product->out_stride, scratch},
                   index);
  });
}

}  // namespace fewbits
