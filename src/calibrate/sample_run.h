#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <utility>
#include <vector>

#include "base/thread_pool.h"
#include "engine/layer.h"
#include "model/model.h"

namespace fewbits {

struct SampleSite {
  Role role;
  int64_t layer, sample;
  int64_t expert = 0;  ///< of the sites that ExpertObserver reports
};

struct SampleRun {
  /// Sees what each site is fed, [tokens][columns]. By the thread that called.
  std::function<void(const SampleSite&, std::span<const float> input, int64_t tokens)> observer;
  std::function<void(int64_t layer)> layer_done = {};
  /// Samples done, samples of all layers together.
  std::function<void(int64_t done, int64_t total)> progress = {};
};

/// Runs samples through a model as it is stored, all of them through one layer after another, whose
/// weights alone are in memory. REQUIRES: there is a sample.
void run_samples(const Model& model, std::span<const std::vector<Token>> samples, ThreadPool& pool,
                 const SampleRun& run);

/// Throws Error unless all values are finite; layer and sample are named.
void refuse_infinite(const Model& model, const SampleSite& site, std::span<const float> input);

/// By layer and site, the largest magnitude of each column, one expert after another up to the last
/// that a token went to. Throws Error where an activation is not
/// finite (layer and sample named).
std::map<std::pair<int64_t, Role>, std::vector<float>> gather_largest_inputs(
    const Model& model, std::span<const std::vector<Token>> samples, ThreadPool& pool,
    const std::function<void(int64_t done, int64_t total)>& progress = {});

}  // namespace fewbits
