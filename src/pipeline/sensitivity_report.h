#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "files/file_hash.h"
#include "pipeline/sensitivity.h"

// Measured once, used for files of many sizes: JSON of
//
//   schema          2
//   model           model_identity
//   texts           [{name bytes sha256}], which the samples were taken from
//   samples, sample_length
//   matrices        [{name format divergence output_error
//                     formats: [{format bytes output_error fitted_error}]}]
namespace fewbits {

struct SensitivityReport {
  std::string model;
  std::vector<FileHash> texts = {};
  int64_t samples = 0, sample_length = 0;
  std::vector<Sensitivity> matrices = {};
};

inline constexpr int64_t kSensitivitySchema = 2;

Json to_json(const SensitivityReport& report);

/// Throws Error, beginning with `where`, where it is no report, or one of another model.
SensitivityReport sensitivity_report(const Json& json, const Model& model, std::string_view where);

}  // namespace fewbits
