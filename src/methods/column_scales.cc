#include "methods/column_scales.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace fewbits {
namespace {

constexpr double kLargestLog = 2.772588722239781;  // ln 16

/// x^input_power / w^weight_power over the geometric mean of all; x and w come squared.
std::vector<float> powers(std::span<const double> inputs, std::span<const double> weights,
                          double input_power, double weight_power) {
  check(inputs.size() == weights.size());
  std::vector<double> logs(inputs.size(), 0.0);
  double mean = 0;
  for (size_t i = 0; i < logs.size(); ++i) {
    if (inputs[i] > 0 && weights[i] > 0) {
      logs[i] = input_power * std::log(inputs[i]) / 2 - weight_power * std::log(weights[i]) / 2;
    }
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

}  // namespace

std::vector<float> column_scales(std::span<const double> inputs, std::span<const double> weights) {
  return powers(inputs, weights, 0.5, 0.5);
}

std::vector<std::vector<float>> awq_candidates(std::span<const double> inputs,
                                               std::span<const double> weights) {
  constexpr int kSteps = 20;
  std::vector<std::vector<float>> candidates;
  for (int step = 0; step < kSteps; ++step) {
    const double power = static_cast<double>(step) / kSteps;
    candidates.push_back(powers(inputs, weights, power, 0));
    candidates.push_back(powers(inputs, weights, power, 1 - power));
  }
  return candidates;
}

}  // namespace fewbits
