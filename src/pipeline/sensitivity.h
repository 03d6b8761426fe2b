#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "calibrate/importance.h"
#include "model/model.h"
#include "pipeline/format_errors.h"
#include "pipeline/quantize.h"

// How much each matrix of the layers matters: the divergence of the model's predictions when that
// matrix alone is rounded. Divergences of single matrices are small, add up, and grow with the
// squared error of what the matrix puts out; so one measurement tells of all formats, and a
// knapsack then finds what a number of bytes is best spent on.
namespace fewbits {

/// A way to store a matrix.
struct FormatCost {
  const Format* format;
  int64_t bytes;
  double output_error;  ///< rounded to nearest (format_errors.h)
  double fitted_error;  ///< behind GPTQ
};

struct Sensitivity {
  const Weight* weight;
  const Format* format;                ///< that it was rounded to, to nearest
  double divergence;                   ///< mean KL divergence in nats that this adds
  double output_error;                 ///< share of the mean square of its outputs that this loses
  std::vector<FormatCost> costs = {};  ///< in the formats that a GGUF file may have it in

  /// Expected where `error` is lost.
  double divergence_at(double error) const {
    return output_error > 0 ? divergence / output_error * error : 0;
  }
};

struct SensitivityOptions {
  /// What the matrices of this model are fed; errors are weighed by it. REQUIRES: it has all that
  /// are measured.
  const Importance* importance = nullptr;
  /// REQUIRES: likewise.
  const FormatErrors* errors = nullptr;
  /// What all matrices are rounded to while one is looked at: its divergence is then how much less
  /// there is when it alone is not. Empty: nothing but that one is rounded, to probe_format().
  std::map<const Weight*, const Format*> rounded = {};
  /// Counts matrices.
  std::function<void(int64_t done, int64_t total)> progress = [](int64_t, int64_t) {};
};

/// Rough enough to show in every matrix's divergence, and it fits rows of any whole 32 values.
const Format& probe_format();

/// One for each matrix of the layers that the probe format fits (experts' excepted), in the model's
/// order. The model is loaded as it is, so this needs memory for all of it. Throws Interrupted.
std::vector<Sensitivity> measure_sensitivity(const Model& model,
                                             std::span<const std::vector<Token>> samples,
                                             const SensitivityOptions& options, ThreadPool& pool);

/// How the matrices of a file are rounded.
enum class Rounding { kNearest, kFitted };

/// Changes the formats of the measured matrices, but for those that the user fixed, so that the
/// file has at most `bytes` and the divergence expected of such rounding is least. Throws Error
/// where so few bytes cannot be reached.
void fit_to_size(QuantizePlan& plan, std::span<const Sensitivity> sensitivities, Rounding rounding,
                 int64_t bytes);

}  // namespace fewbits
