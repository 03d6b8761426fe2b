#pragma once

#include <vector>

#include "engine/layer.h"
#include "model/architecture.h"

namespace fewbits {

/// The bias that is added behind a matrix. REQUIRES: a matrix of a layer that may have one.
Role bias_of(Role matrix);

/// Where a layer keeps what is one bias in the model.
std::vector<std::vector<float>*> bias_parts(Role bias, LayerWeights& weights);

}  // namespace fewbits
