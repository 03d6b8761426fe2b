#pragma once

#include <vector>

#include "base/thread_pool.h"
#include "model/model.h"

namespace fewbits {

/// What must have been rounded to `quantized`: the weights of `original`, rows and columns scaled
/// so that they come nearest to it, since a model may have been scaled before it was rounded (AWQ,
/// SmoothQuant). Rows in GGUF's order. REQUIRES: both have one shape.
std::vector<float> weights_behind(const Weight& quantized, const Weight& original,
                                  ThreadPool& pool);

}  // namespace fewbits
