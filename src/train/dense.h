#pragma once

#include <cstdint>

#include "base/thread_pool.h"

// Products of row-major float matrices, cut into fixed tiles that the pool's threads share, so that
// results depend on no thread count. The three that a linear map y = x W^T needs, there and back.
namespace fewbits {

/// `outputs` x `inputs` weights, one row for each output.
struct DenseShape {
  int64_t tokens, outputs, inputs;
};

/// y [tokens][outputs] = x W^T.
void apply_map(const DenseShape& shape, const float* x, const float* weights, float* y,
               ThreadPool& pool);

/// dx [tokens][inputs] += dy W.
void add_input_gradient(const DenseShape& shape, const float* dy, const float* weights, float* dx,
                        ThreadPool& pool);

/// dW [outputs][inputs] = dy^T x.
void weight_gradient(const DenseShape& shape, const float* dy, const float* x, float* dw,
                     ThreadPool& pool);

}  // namespace fewbits
