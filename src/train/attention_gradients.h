#pragma once

#include <cstdint>

#include "base/thread_pool.h"

// Causal softmax attention over whole sequences in floats, and its derivative. The table of
// probabilities of one head exists only while that head is worked on, and is made again on the way
// back.
namespace fewbits {

/// Rows of all sequences lie one after another.
struct AttentionShape {
  int64_t sequences, length;  ///< tokens of each
  int64_t heads, kv_heads, head_dim;
  int64_t window;  ///< tokens that each sees, its own included; 0: all before it
  float scale;     ///< of scores

  int64_t tokens() const { return sequences * length; }
};

/// Queries and out are [tokens][heads][head_dim], keys and values [tokens][kv_heads][head_dim].
struct AttentionInputs {
  const float *queries, *keys, *values;
};

void attend_forward(const AttentionShape& shape, const AttentionInputs& inputs, float* out,
                    ThreadPool& pool);

struct AttentionGradients {
  float *queries, *keys, *values;
};

/// Writes the gradients of the inputs, given that of the output.
void attend_backward(const AttentionShape& shape, const AttentionInputs& inputs, const float* dout,
                     const AttentionGradients& gradients, ThreadPool& pool);

}  // namespace fewbits
