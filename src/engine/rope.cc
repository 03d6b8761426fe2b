#include "engine/rope.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace fewbits {

std::vector<double> rope_frequencies(const ModelConfig& config, std::span<const float> factors) {
  const int64_t pairs = config.turned_dims() / 2;
  const RopeScaling& scaling = config.rope_scaling;
  std::vector<float> yarn;
  if (scaling.kind == RopeScaling::Kind::kYarn) {
    yarn = rope_divisors(scaling, config.rope_theta, config.turned_dims());
    factors = yarn;
  }
  check(factors.empty() || std::ssize(factors) == pairs);
  const double divisor = scaling.kind == RopeScaling::Kind::kLinear ? scaling.factor : 1;
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

RopeTable::RopeTable(RopeFrequencies frequencies, int64_t most_tokens)
    : frequencies_(std::move(frequencies)), pairs_(std::ssize(frequencies_.all)) {
  check(!has_local() || std::ssize(frequencies_.local) == pairs_);
  check(frequencies_.far.empty() || std::ssize(frequencies_.far) == pairs_);
  const auto size = static_cast<size_t>(most_tokens * pairs_);
  all_ = {std::vector<float>(size), std::vector<float>(size)};
  if (has_local()) local_ = all_;
}

void RopeTable::prepare(int64_t first_position, int64_t tokens, int64_t context) {
  prepare({first_position, tokens, 0}, context);
}

void RopeTable::prepare_token(int64_t token, int64_t position, int64_t context) {
  prepare({position, 1, token}, context);
}

void RopeTable::prepare(Pass pass, int64_t context) {
  check((pass.first_token + pass.tokens) * pairs_ <= std::ssize(all_.cosines));
  const bool far = !frequencies_.far.empty() &&
                   std::max(context, pass.first_position + pass.tokens) > frequencies_.near_context;
  fill(all_, far ? frequencies_.far : frequencies_.all, frequencies_.magnitude, pass);
  if (has_local()) fill(local_, frequencies_.local, 1, pass);
}

void RopeTable::fill(Angles& angles, const std::vector<double>& frequencies, double magnitude,
                     Pass pass) {
  size_t out = static_cast<size_t>(pass.first_token) * frequencies.size();
  for (int64_t token = 0; token < pass.tokens; ++token) {
    const auto position = static_cast<double>(pass.first_position + token);
    for (const double frequency : frequencies) {
      angles.cosines[out] = static_cast<float>(magnitude * std::cos(position * frequency));
      angles.sines[out] = static_cast<float>(magnitude * std::sin(position * frequency));
      ++out;
    }
  }
}

}  // namespace fewbits
