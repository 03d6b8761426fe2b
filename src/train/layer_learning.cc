#include "train/layer_learning.h"

#include <utility>

namespace fewbits {
namespace {

/// The loss; `states`, what the layer gave, become its gradient.
double compare(const LayerSamples& samples, std::vector<float>& states, int64_t width) {
  const int64_t tokens = samples.batch().tokens();
  double sum = 0;
  for (int64_t t = 0; t < tokens; ++t) {
    float* state = states.data() + t * width;
    const float* wanted = samples.wanted.data() + t * width;
    double size = 0, lost = 0;
    for (int64_t i = 0; i < width; ++i) {
      const double error = double{state[i]} - wanted[i];
      size += double{wanted[i]} * wanted[i];
      lost += error * error;
    }
    if (size == 0) size = 1;
    sum += lost / size;
    const auto share = static_cast<float>(2 / (size * static_cast<double>(tokens)));
    for (int64_t i = 0; i < width; ++i) state[i] = share * (state[i] - wanted[i]);
  }
  return sum / static_cast<double>(tokens);
}

}  // namespace

LayerLearner::LayerLearner(const ModelConfig& config, const RopeTable& rope, DenseLayer layer,
                           std::map<Role, LearnedRounding> roundings, ThreadPool& pool)
    : config_(config),
      rope_(rope),
      layer_(std::move(layer)),
      roundings_(std::move(roundings)),
      pool_(pool) {}

void LayerLearner::refresh() {
  if (!std::exchange(stale_, false)) return;
  for (const auto& [role, rounding] : roundings_) rounding.values(*layer_.matrix(role), pool_);
}

void LayerLearner::run(const LayerSamples& samples, std::vector<float>& states) {
  refresh();
  states = samples.inputs;
  DenseLayers(config_, rope_, samples.batch(), pool_).forward(layer_, states, tape_);
}

double LayerLearner::loss(const LayerSamples& samples) {
  std::vector<float> states;
  run(samples, states);
  return compare(samples, states, config_.hidden);
}

double LayerLearner::step(const LayerSamples& samples, const RoundingRates& rates) {
  refresh();
  if (!steps_ || batch_ != samples.batch()) {
    batch_ = samples.batch();
    steps_.emplace(config_, rope_, batch_, pool_);
  }
  std::vector<float> states = samples.inputs;
  steps_->forward(layer_, states, tape_);
  const double loss = compare(samples, states, config_.hidden);
  LayerGradients gradients;
  gradients.matrix = [&](Role role, std::span<const float> of_values) {
    const auto found = roundings_.find(role);
    if (found != roundings_.end()) found->second.learn(of_values, rates, pool_);
  };
  steps_->backward(layer_, tape_, states, gradients);
  stale_ = true;
  return loss;
}

std::map<Role, std::vector<std::byte>> LayerLearner::bytes() const {
  std::map<Role, std::vector<std::byte>> all;
  for (const auto& [role, rounding] : roundings_) all[role] = rounding.bytes(pool_);
  return all;
}

}  // namespace fewbits
