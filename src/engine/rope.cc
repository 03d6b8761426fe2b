#include "engine/rope.h"

#include <cmath>

#include "base/error.h"

namespace fewbits {

std::vector<double> rope_frequencies(const ModelConfig& config, std::span<const float> factors) {
  const int64_t pairs = config.head_dim / 2;
  check(factors.empty() || static_cast<int64_t>(factors.size()) == pairs);
  const bool linear = config.rope_scaling.kind == RopeScaling::Kind::kLinear;
  const double divisor = linear ? config.rope_scaling.factor : 1;
  std::vector<double> frequencies;
  for (int64_t i = 0; i < pairs; ++i) {
    const double exponent = 2 * static_cast<double>(i) / static_cast<double>(config.head_dim);
    const double factor = factors.empty() ? 1 : double{factors[static_cast<size_t>(i)]};
    frequencies.push_back(std::pow(config.rope_theta, -exponent) / (divisor * factor));
  }
  return frequencies;
}

RopeTable::RopeTable(std::vector<double> frequencies, int64_t most_tokens)
    : frequencies_(std::move(frequencies)),
      cosines_(frequencies_.size() * static_cast<size_t>(most_tokens)),
      sines_(cosines_.size()) {}

void RopeTable::prepare(int64_t first_position, int64_t tokens) {
  check(tokens * pairs() <= static_cast<int64_t>(cosines_.size()));
  size_t out = 0;
  for (int64_t token = 0; token < tokens; ++token) {
    const auto position = static_cast<double>(first_position + token);
    for (const double frequency : frequencies_) {
      cosines_[out] = static_cast<float>(std::cos(position * frequency));
      sines_[out] = static_cast<float>(std::sin(position * frequency));
      ++out;
    }
  }
}

}  // namespace fewbits
