#include "calibrate/sample_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/interrupt.h"
#include "calibrate/samples.h"
#include "calibrate/sites.h"
#include "engine/embedder.h"
#include "engine/engine.h"

namespace fewbits {
namespace {

class Samples {
 public:
  Samples(const Model& model, std::span<const std::vector<Token>> samples, ThreadPool& pool)
      : model_(model),
        samples_(samples),
        pool_(pool),
        config_(model.config),
        rope_(rope_table(model, longest(samples))),
        cache_(one_layer(), longest(samples)),
        buffers_(config_, longest(samples), pool.threads()) {
    rope_.prepare(0, longest(samples));
    const Embedder embedder(model_);
    for (const auto& sample : samples_) embedder.embed(sample, hidden_);
  }

  void run_layer(int64_t layer, const SampleRun& run, const std::function<void()>& sample_done) {
    const LayerWeights weights = load_layer(model_, layer, {}, pool_);
    int64_t begin = 0, sample = 0;
    const SiteObserver observer = [&](Role site, std::span<const float> input, int64_t tokens) {
      run.observer({site, layer, sample}, input, tokens);
      return true;
    };
    const ExpertObserver of_experts = [&](Role site, int64_t expert, std::span<const float> input,
                                          int64_t tokens) {
      run.observer({site, layer, sample, expert}, input, tokens);
    };
    for (const auto& tokens : samples_) {
      throw_if_interrupted();
      const int64_t size = static_cast<int64_t>(tokens.size()) * config_.hidden;
      LayerContext context{config_, rope_, buffers_, pool_, &observer, &of_experts};
      cache_.truncate(0);
      forward_layer(
          weights,
          std::span(hidden_).subspan(static_cast<size_t>(begin), static_cast<size_t>(size)),
          cache_.layer(0), context);
      begin += size;
      ++sample;
      sample_done();
    }
  }

 private:
  const ModelConfig& one_layer() {
    config_.layers = 1;
    return config_;
  }

  const Model& model_;
  std::span<const std::vector<Token>> samples_;
  ThreadPool& pool_;
  ModelConfig config_;
  RopeTable rope_;
  KvCache cache_;
  LayerBuffers buffers_;
  std::vector<float> hidden_;  ///< [sample][token][hidden size]
};

}  // namespace

void run_samples(const Model& model, std::span<const std::vector<Token>> samples, ThreadPool& pool,
                 const SampleRun& run) {
  check(!samples.empty());
  Samples all(model, samples, pool);
  const int64_t total = std::ssize(samples) * model.config.layers;
  int64_t done = 0;
  for (int64_t layer = 0; layer < model.config.layers; ++layer) {
    all.run_layer(layer, run, [&] {
      if (run.progress) run.progress(++done, total);
    });
    if (run.layer_done) run.layer_done(layer);
  }
}

void refuse_infinite(const Model& model, const SampleSite& site, std::span<const float> input) {
  if (std::ranges::all_of(input, [](float value) { return std::isfinite(value); })) return;
  std::string reader = "a matrix";
  for (const Role role : readers_of(site.role)) {
    if (const Weight* weight = model.find(role, site.layer)) reader = weight->gguf_name;
  }
  throw Error(fmt::format("calibration: what {} of layer {} is fed in sample {} is not finite",
                          reader, site.layer, site.sample));
}

std::map<std::pair<int64_t, Role>, std::vector<float>> gather_largest_inputs(
    const Model& model, std::span<const std::vector<Token>> samples, ThreadPool& pool,
    const std::function<void(int64_t done, int64_t total)>& progress) {
  std::map<std::pair<int64_t, Role>, std::vector<float>> all;
  SampleRun run;
  run.observer = [&](const SampleSite& site, std::span<const float> input, int64_t tokens) {
    refuse_infinite(model, site, input);
    std::vector<float>& largest = all[{site.layer, site.role}];
    const size_t columns = input.size() / static_cast<size_t>(tokens);
    const size_t first = static_cast<size_t>(site.expert) * columns;
    largest.resize(std::max(largest.size(), first + columns));
    for (size_t i = 0; i < input.size(); ++i) {
      float& of_column = largest[first + i % columns];
      of_column = std::max(of_column, std::abs(input[i]));
    }
  };
  run.progress = progress;
  run_samples(model, samples, pool, run);
  return all;
}

}  // namespace fewbits
