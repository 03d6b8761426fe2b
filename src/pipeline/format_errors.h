#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "formats/format.h"
#include "model/model.h"

// What every format would lose of what each matrix puts out, found on a few of its rows: by plain
// rounding, and by rounding that is fitted to what the matrix is fed. The two differ by a factor
// that is not the same for all formats, so formats chosen for a file are compared by that which the
// file is made with.
namespace fewbits {

/// As a share of the mean square of the outputs.
struct FormatError {
  const Format* format;
  double nearest;  ///< rounded to nearest, columns weighed by the mean square of their inputs
  double fitted;   ///< rounded by GPTQ
};

using FormatErrors = std::map<const Weight*, std::vector<FormatError>>;

/// Of the layers' matrices, experts' excepted, in the formats of a GGUF file that have room for
/// them. The samples go through the 16-bit model; every third judges what is fitted to the others.
/// `progress`: counts layers. Throws Interrupted.
FormatErrors measure_format_errors(const Model& model, std::span<const std::vector<Token>> samples,
                                   const std::function<void(int64_t done, int64_t total)>& progress,
                                   ThreadPool& pool);

}  // namespace fewbits
