#pragma once

#include "engine/layer.h"

// A feed-forward part made of experts: a router scores them for each token, the best few are asked,
// and what they say is added up by their softmax weights, which are scaled to a sum of one.
namespace fewbits {

/// `input` and `out` are [tokens][hidden size]; `out` is overwritten. The router sees the input as
/// it is, experts see it rounded.
void forward_experts(const LayerWeights& layer, const float* input, int64_t tokens, float* out,
                     LayerContext& context);

/// gate[i] = act(gate[i]) * up[i], or act(gate[i]) where `up` is null.
void activate(LayerDesign::Activation activation, float* gate, const float* up, int64_t count);

}  // namespace fewbits
