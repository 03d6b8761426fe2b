#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "engine/layer.h"
#include "methods/gptq.h"
#include "model/model.h"
#include "pipeline/quantize.h"
#include "pipeline/sample_streams.h"

// The matrices of experts in a calibrated run: each expert is fitted to the tokens that the router
// sends to it. An expert that hardly any went to is rounded to nearest, weighed by what all experts
// of its layer are fed, and named.
namespace fewbits {

struct ExpertOptions {
  GptqOptions gptq = {};
  HessianOptions hessian = {};
  std::function<void(const Weight& weight, double error)> progress = {};  ///< CalibrationOptions'
};

class CalibratedExperts {
 public:
  /// `formats` as of CalibratedLayers. References must outlive this object.
  CalibratedExperts(const Model& model, const std::map<const Weight*, const Format*>& formats,
                    const ExpertOptions& options, ThreadPool& pool)
      : model_(model), formats_(formats), options_(options), pool_(pool) {}

  /// Rounds the layer's experts, if it has any, and computes with them in `weights` from here on.
  void encode_layer(int64_t layer, SampleStreams& streams, LayerWeights& weights);

  /// The same with the bytes that an earlier run found.
  void restore_layer(int64_t layer, const RoundedBefore& before, LayerWeights& weights);

  /// Null: the weight is none of the layer's rounded experts.
  const RoundedWeight* encoded(const Weight& weight) const;

  /// Which experts were starved, a line for each weight.
  const std::vector<std::string>& warnings() const { return warnings_; }

 private:
  struct Encoded {
    std::vector<std::byte> bytes;
    RoundedWeight rounded = {};
  };

  const Format* rounded_format(const Weight& weight) const;
  std::vector<const Weight*> rounded_readers(Role site, int64_t layer) const;
  void encode_site(Role site, int64_t layer, SampleStreams& streams, LayerWeights& weights);
  void encode_expert(const Weight& weight, int64_t expert, const ExpertMoments& moments,
                     const Hessian* hessian);
  void warn_of_starved(const Weight& weight, const ExpertMoments& moments);
  void replace(const Weight& weight, LayerWeights& weights);

  const Model& model_;
  const std::map<const Weight*, const Format*>& formats_;
  ExpertOptions options_;
  ThreadPool& pool_;
  std::map<const Weight*, Encoded> encoded_;
  std::vector<std::string> warnings_;
};

/// How many experts' second moments are gathered at once.
int64_t experts_at_once(int64_t columns);

}  // namespace fewbits
