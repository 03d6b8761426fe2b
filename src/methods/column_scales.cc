#include "methods/column_scales.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace fewbits {
namespace {

constexpr double kLargestLog = 2.772588722239781;  // ln 16

}  // namespace

std::vector<float> column_scales(std::span<const double> inputs, std::span<const double> weights) {
  check(inputs.size() == weights.size());
  std::vector<double> logs(inputs.size(), 0.0);
  double mean = 0;
  for (size_t i = 0; i < logs.size(); ++i) {
    if (inputs[i] > 0 && weights[i] > 0) logs[i] = 0.25 * std::log(inputs[i] / weights[i]);
    mean += logs[i] / static_cast<double>(logs.size());
  }
  std::vector<float> scales;
  for (size_t i = 0; i < logs.size(); ++i) {
    const bool known = inputs[i] > 0 && weights[i] > 0;
    const double log = known ? std::clamp(logs[i] - mean, -kLargestLog, kLargestLog) : 0.0;
    scales.push_back(static_cast<float>(std::exp(log)));
  }
  return scales;
}

}  // namespace fewbits
