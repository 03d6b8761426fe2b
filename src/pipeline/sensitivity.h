#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "model/model.h"
#include "pipeline/quantize.h"

// How much each matrix of the layers matters: the divergence of the model's predictions when that
// matrix alone is rounded. Divergences of single matrices are small, add up, and grow with the
// squared error of the weights; so one measurement tells of all formats, and a knapsack then finds
// what a number of bytes is best spent on.
namespace fewbits {

struct Sensitivity {
  const Weight* weight;
  double divergence;      ///< mean KL divergence in nats with this matrix rounded to probe_format()
  double relative_error;  ///< of the matrix so rounded
};

/// Rough enough to show in every matrix's divergence, and it fits rows of any whole 32 values.
const Format& probe_format();

/// One for each matrix of the layers that the probe format fits (experts' excepted), in the model's
/// order. The model is loaded as it is, so this needs memory for all of it. `progress` counts
/// matrices. Throws Interrupted.
std::vector<Sensitivity> measure_sensitivity(const Model& model,
                                             std::span<const std::vector<Token>> samples,
                                             ThreadPool& pool,
                                             const std::function<void(int64_t, int64_t)>& progress);

/// Changes the formats of the measured matrices, but for those that the user fixed, so that the
/// file has at most `bytes` and the expected divergence is least. Throws Error where so few bytes
/// cannot be reached.
void fit_to_size(QuantizePlan& plan, std::span<const Sensitivity> sensitivities, int64_t bytes);

}  // namespace fewbits
