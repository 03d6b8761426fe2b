#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "pipeline/calibration_options.h"
#include "pipeline/quantize.h"

namespace fewbits {

/// What a calibrated run takes besides what the process holds already, in bytes.
struct CalibrationMemory {
  int64_t states = 0;  ///< hidden states of all samples: in memory, or in files
  int64_t rest = 0;    ///< most of all else at once
};

/// What it will take to encode `plan` with samples of these lengths (in tokens).
CalibrationMemory calibration_memory(const Model& model, const QuantizePlan& plan,
                                     std::span<const std::vector<Token>> samples,
                                     const CalibrationOptions& options, int threads);

}  // namespace fewbits
