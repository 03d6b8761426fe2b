#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "model/model.h"
#include "pipeline/quantize.h"

// Training of what a quantized model stores anyway, its codes left as they are: the scale of every
// block and the gains of the norms, so that its predictions come nearer to those of the model it
// was made from (EfficientQAT's second phase, Chen et al. 2024, arXiv 2407.11062, with the
// Kullback-Leibler divergence of the predictions as the loss).
namespace fewbits {

/// What a run has come to after a step.
struct TuningState {
  int64_t steps = 0, tokens = 0;
  double before = 0, after = 0;  ///< as TuneResult's
  /// All that is learned, the best of it so far, and what the optimizer knows.
  std::vector<std::span<float>> arrays = {};
};

struct TuneOptions {
  double learning_rate = 1e-3;  ///< of log scales
  int64_t epochs = 1;
  int64_t batch = 4;  ///< samples in a step
  /// Of the samples, not trained on: the parameters that do best on them are kept.
  double held_out = 0.1;
  /// The share of the time for it that is over: at 1 no step is begun, and until then the rate
  /// falls as if the steps left would all be done. Empty: there is time for all.
  std::function<double()> time_over = {};
  /// Asked once, with a state of no steps: true where it became that of a run before with the same
  /// samples and options, which then goes on.
  std::function<bool(TuningState& state)> load = {};
  /// Told after each step.
  std::function<void(const TuningState& state)> save = {};
};

struct TuneProgress {
  int64_t step, steps;
  double divergence;  ///< of the step's samples, before it
};

struct TuneResult {
  double before = 0, after = 0;  ///< divergence on the samples held out, nats per token
  int64_t steps = 0, tokens = 0;
};

/// What stands in the way of tuning `model` after `reference`; "": nothing.
std::string why_not_tunable(const Model& model, const Model& reference);

/// The same for whatever is going to be made of `reference`.
std::string why_never_tunable(const Model& reference);

/// What tuning on samples of `length` tokens takes, with what the process holds now. Matrices that
/// have no scales are counted as if they had them already, in blocks of 32.
int64_t tuning_memory(const Model& model, int64_t length);

class Tuner {
 public:
  /// Both models have the same shape and why_not_tunable is ""; all samples have one length.
  /// References must outlive this object.
  Tuner(const Model& model, const Model& reference, ThreadPool& pool);
  ~Tuner();

  TuneResult run(const std::vector<std::vector<Token>>& samples, const TuneOptions& options,
                 const std::function<void(const TuneProgress&)>& progress);

  /// The tuned bytes; nothing for what was not tuned.
  RoundedWeight encoded(const Weight& weight);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Writes every tensor of a GGUF as it is: what the encoder of a run does not replace stays.
QuantizePlan plan_copy(const Model& model);

}  // namespace fewbits
