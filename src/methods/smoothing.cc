#include "methods/smoothing.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace fewbits {

std::vector<float> smoothing_scales(std::span<const float> inputs, std::span<const float> weights,
                                    double alpha) {
  check(inputs.size() == weights.size());
  constexpr double kLeast = 1e-5;  // the reference implementation's
  std::vector<float> scales;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const double x = std::max(kLeast, double{inputs[i]});
    const double w = std::max(kLeast, double{weights[i]});
    const bool used = inputs[i] > 0 && weights[i] > 0;
    const double scale = std::pow(x, alpha) / std::pow(w, 1 - alpha);
    scales.push_back(used ? static_cast<float>(std::max(kLeast, scale)) : 1.0f);
  }
  return scales;
}

std::vector<float> equalizing_scales(std::span<const float> rows, std::span<const float> columns) {
  check(rows.size() == columns.size());
  std::vector<float> scales;
  for (size_t i = 0; i < rows.size(); ++i) {
    const bool used = rows[i] > 0 && columns[i] > 0;
    scales.push_back(used ? std::sqrt(rows[i]) / std::sqrt(columns[i]) : 1.0f);
  }
  return scales;
}

}  // namespace fewbits
