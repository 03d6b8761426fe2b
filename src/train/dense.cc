#include "train/dense.h"

#include <algorithm>

#include "base/checked_math.h"
#include "calibrate/blas.h"

namespace fewbits {
namespace {

// One task: large enough for the product to run at full speed, small enough to share out.
constexpr int64_t kTile = 256;

/// C [rows][columns] = (or +=, with beta 1) op(A) op(B), `inner` the size summed over.
struct Product {
  CBLAS_TRANSPOSE transpose_a, transpose_b;
  int64_t rows, columns, inner;
  const float *a, *b;
  int64_t stride_a, stride_b;
  float* c;
  float beta;
};

void run(const Product& product, ThreadPool& pool) {
  const int64_t across = divide_up(product.columns, kTile);
  pool.run(divide_up(product.rows, kTile) * across, [&](int64_t task, int) {
    const int64_t i = task / across * kTile, j = task % across * kTile;
    const int64_t step_a = product.transpose_a == CblasTrans ? 1 : product.stride_a;
    const int64_t step_b = product.transpose_b == CblasTrans ? product.stride_b : 1;
    const BlasCall call;
    cblas_sgemm(CblasRowMajor, product.transpose_a, product.transpose_b,
                static_cast<int>(std::min(kTile, product.rows - i)),
                static_cast<int>(std::min(kTile, product.columns - j)),
                static_cast<int>(product.inner), 1.0f, product.a + i * step_a,
                static_cast<int>(product.stride_a), product.b + j * step_b,
                static_cast<int>(product.stride_b), product.beta,
                product.c + i * product.columns + j, static_cast<int>(product.columns));
  });
}

}  // namespace

void apply_map(const DenseShape& shape, const float* x, const float* weights, float* y,
               ThreadPool& pool) {
  run({.transpose_a = CblasNoTrans,
       .transpose_b = CblasTrans,
       .rows = shape.tokens,
       .columns = shape.outputs,
       .inner = shape.inputs,
       .a = x,
       .b = weights,
       .stride_a = shape.inputs,
       .stride_b = shape.inputs,
       .c = y,
       .beta = 0},
      pool);
}

void add_input_gradient(const DenseShape& shape, const float* dy, const float* weights, float* dx,
                        ThreadPool& pool) {
  run({.transpose_a = CblasNoTrans,
       .transpose_b = CblasNoTrans,
       .rows = shape.tokens,
       .columns = shape.inputs,
       .inner = shape.outputs,
       .a = dy,
       .b = weights,
       .stride_a = shape.outputs,
       .stride_b = shape.inputs,
       .c = dx,
       .beta = 1},
      pool);
}

void weight_gradient(const DenseShape& shape, const float* dy, const float* x, float* dw,
                     ThreadPool& pool) {
  run({.transpose_a = CblasTrans,
       .transpose_b = CblasNoTrans,
       .rows = shape.outputs,
       .columns = shape.inputs,
       .inner = shape.tokens,
       .a = dy,
       .b = x,
       .stride_a = shape.outputs,
       .stride_b = shape.inputs,
       .c = dw,
       .beta = 0},
      pool);
}

}  // namespace fewbits
