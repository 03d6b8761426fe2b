#include "engine/rope.h"

#include <cmath>

#include "base/error.h"

namespace fewbits {

std::vector<double> rope_frequencies(const ModelConfig& config, std::span<const float> factors) {
  const int64_t pairs = config.turned_dims() / 2;
  check(factors.empty() || static_cast<int64_t>(factors.size()) == pairs);
  const bool linear = config.rope_scaling.kind == RopeScaling::Kind::kLinear;
  const double divisor = linear ? config.rope_scaling.factor : 1;
  std::vector<double> frequencies;
  for (int64_t i = 0; i < pairs; ++i) {
    const double exponent = static_cast<double>(i) / static_cast<double>(pairs);
    const double factor = factors.empty() ? 1 : double{factors[static_cast<size_t>(i)]};
    frequencies.push_back(std::pow(config.rope_theta, -exponent) / (divisor * factor));
  }
  return frequencies;
}

std::vector<double> local_rope_frequencies(const ModelConfig& config) {
  if (config.rope_theta_local == 0) return {};
  ModelConfig local = config;
  local.rope_theta = config.rope_theta_local;
  local.rope_scaling = {};
  return rope_frequencies(local, {});
}

RopeTable::RopeTable(std::vector<double> frequencies, int64_t most_tokens,
                     std::vector<double> local)
    : pairs_(std::ssize(frequencies)), has_local_(!local.empty()) {
  check(!has_local_ || std::ssize(local) == pairs_);
  const auto size = static_cast<size_t>(most_tokens * pairs_);
  all_ = {std::move(frequencies), std::vector<float>(size), std::vector<float>(size)};
  const size_t local_size = has_local_ ? size : 0;
  local_ = {std::move(local), std::vector<float>(local_size), std::vector<float>(local_size)};
}

void RopeTable::prepare(int64_t first_position, int64_t tokens) {
  check(tokens * pairs_ <= std::ssize(all_.cosines));
  fill(all_, first_position, tokens);
  if (has_local_) fill(local_, first_position, tokens);
}

void RopeTable::fill(Angles& angles, int64_t first_position, int64_t tokens) {
  size_t out = 0;
  for (int64_t token = 0; token < tokens; ++token) {
    const auto position = static_cast<double>(first_position + token);
    for (const double frequency : angles.frequencies) {
      angles.cosines[out] = static_cast<float>(std::cos(position * frequency));
      angles.sines[out] = static_cast<float>(std::sin(position * frequency));
      ++out;
    }
  }
}

}  // namespace fewbits
