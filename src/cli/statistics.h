#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "calibrate/importance.h"
#include "calibrate/samples.h"
#include "model/model.h"
#include "pipeline/quantize.h"
#include "pipeline/sensitivity_report.h"

// What calibrate gathers and quantize uses, in one run or in two.
namespace fewbits::cli {

/// Throws Error where the file was made from another model, or lacks a matrix that the plan cannot
/// round without.
Importance importance_for(const std::string& path, const Model& model, const QuantizePlan& plan);

/// Throws Error where the file was made from another model.
SensitivityReport sensitivity_for(const std::string& path, const Model& model);

/// The two samples or so that are enough to tell which matrices matter, each of `length` tokens.
SensitivityReport measure_sensitivities(const Model& model,
                                        const std::vector<std::filesystem::path>& texts,
                                        const SampleOptions& samples, ThreadPool& pool);

/// The same once more, in the model as `plan` would round it: as many samples and as long as the
/// report has, `seed` says which.
void measure_again(SensitivityReport& report, const Model& model, const QuantizePlan& plan,
                   const std::vector<std::filesystem::path>& texts, uint64_t seed,
                   ThreadPool& pool);

/// A line for each matrix: its error, and the divergence expected in some formats.
std::string sensitivity_table(const SensitivityReport& report);

}  // namespace fewbits::cli
