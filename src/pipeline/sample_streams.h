#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "calibrate/gram.h"
#include "calibrate/observers.h"
#include "engine/layer.h"
#include "model/model.h"
#include "pipeline/state_store.h"

namespace fewbits {

/// What calibration gathers for the matrices that read one input x.
struct SiteMoments {
  Role role = Role::kQuery;
  int64_t columns = 0;
  float largest = 0;             ///< of |x|; or the range that StreamOptions::observer finds
  std::vector<float> mean = {};  ///< of x
  std::vector<float> gram;       ///< mean of x x^T
  /// Where the matrix adds to the residual stream: mean of y x^T [hidden][columns], y: what it
  /// should add. Elsewhere: mean of (x' - x) x^T [columns][columns], x': the 16-bit model's input.
  std::vector<float> cross;

  bool has_output() const { return role == Role::kAttentionOutput || role == Role::kDown; }
};

/// What calibration gathers for the experts of a layer.
struct ExpertMoments {
  std::vector<int64_t> tokens;            ///< that went to each expert
  std::vector<float> means;               ///< mean squares by column over what went to any
  std::vector<std::vector<float>> grams;  ///< of the chosen experts; empty where no token went
};

/// Some experts of a layer that has `all` of them.
struct ExpertRange {
  int64_t first, count, all;
};

/// The largest of what a layer's KV cache held, whatever its sign.
struct KvRange {
  float key = 0, value = 0;
};

struct StreamOptions {
  bool follow_outputs = false;  ///< gather `cross`
  /// Hidden states lie in files there, not in memory.
  std::optional<std::filesystem::path> spill = {};
  std::function<void()> waiting = {};  ///< called for each sample on its way through a layer
  ObserverRule observer = {};          ///< of the range of inputs
  const ActivationFormat* observed = &activation_format_named("int8");  ///< what they become
};

/// How many numbers SampleStreams keeps for each one of the samples' hidden states. `reference`:
/// run_reference is called.
int64_t states_kept(const StreamOptions& options, bool reference);

/// Most memory that SampleStreams takes besides those: what one sample of `longest` tokens needs on
/// its way through a layer.
int64_t stream_buffer_bytes(const ModelConfig& config, int64_t longest);

/// Calibration samples on their way through the model, one layer after another, twice: in the
/// 16-bit model, and in the layers as they were rounded.
class SampleStreams {
 public:
  /// `model`, `samples` and `pool` must outlive this object.
  SampleStreams(const Model& model, const std::vector<std::vector<Token>>& samples,
                const StreamOptions& options, ThreadPool& pool);

  /// Runs the samples through a layer of the 16-bit model. Needed by squares() and to follow
  /// outputs; then for every layer.
  void run_reference(const LayerWeights& original);

  /// Of the 16-bit inputs of attention output and down, summed over tokens.
  const std::vector<double>& squares(Role site) const { return squares_.at(site); }

  /// What a site of the layer is fed, the matrices before it rounded. Throws Error where that is
  /// not finite (matrix and sample named).
  SiteMoments gather(Role role, int64_t columns, const LayerWeights& original,
                     const LayerWeights& rounded);

  /// The same of a layer's experts, by a site that ExpertObserver reports.
  ExpertMoments gather_experts(Role site, int64_t columns, const ExpertRange& range,
                               const LayerWeights& rounded);

  /// Goes on to the next layer. Returns what was in the caches of this one.
  KvRange advance(const LayerWeights& rounded);

  /// Hidden states of one sample, [tokens][hidden size], once run_reference has run this layer:
  /// what the layer is fed behind rounded layers, what the 16-bit one gave, and what `rounded`
  /// gives.
  std::vector<float> input_of(int64_t sample) const;
  std::vector<float> reference_output_of(int64_t sample) const;
  std::vector<float> output_of(int64_t sample, const LayerWeights& rounded);

  const ModelConfig& config() const { return config_; }

 private:
  void embed();
  void forward(const LayerWeights& weights, const SiteObserver* observer,
               const ExpertObserver* expert_observer = nullptr);
  void widen(KvRange& range);
  void add_squares(Role site, std::span<const float> input, int64_t tokens);
  void refuse_infinite(Role site, std::span<const float> input) const;
  std::string site_name(Role site) const;
  void wanted_outputs(Role role, int64_t begin, const LayerWeights& rounded,
                      std::vector<float>& wanted) const;
  std::vector<float> part(const StateStore& states, int64_t begin, int64_t sample) const;
  void begin_sample(const StateStore& states, int64_t sample);
  void begin_reference();
  int64_t sample_values(int64_t sample) const;
  int64_t sample_begin(int64_t sample) const;
  StateStore new_store() const { return {values_, options_.spill}; }

  const Model& model_;
  const std::vector<std::vector<Token>>& samples_;
  StreamOptions options_;
  ThreadPool& pool_;
  ModelConfig config_;  ///< of one layer
  RopeTable rope_;
  KvCache cache_;
  LayerBuffers buffers_;
  int64_t values_ = 0;  ///< of all samples' hidden states
  // Hidden states, [sample][token][hidden size]: what the layer is fed in the 16-bit model, what
  // stands before its MLP, what the norm there gives, and what comes out; and what the layer is fed
  // behind rounded layers. Where outputs are not followed, what comes out takes the place of what
  // was fed, and there is none but the first and the last.
  StateStore reference_, middle_, gate_input_, next_, rounded_;
  std::vector<float> hidden_;  ///< of the sample under way
  int64_t layer_ = 0, sample_ = 0;
  std::map<Role, std::vector<double>> squares_;
};

}  // namespace fewbits
