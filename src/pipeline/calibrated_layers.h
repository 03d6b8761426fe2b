#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "engine/layer.h"
#include "methods/gptq.h"
#include "model/model.h"
#include "pipeline/quantize.h"

// Calibrated quantization, one decoder layer after another: samples run through the layer while the
// second moments of what its matrices are fed are gathered, GPTQ rounds the matrices with them, and
// the samples then run through the rounded layer, so that the next one is fitted to what it will
// really be fed.
namespace fewbits {

class CalibratedLayers {
 public:
  /// `formats` says what each weight becomes; weights in float formats, and vectors, stay as they
  /// are. All references must outlive this object.
  CalibratedLayers(const Model& model, const std::map<const Weight*, const Format*>& formats,
                   std::vector<std::vector<Token>> samples, const GptqOptions& options,
                   ThreadPool& pool);

  /// Layers come in order; those before are forgotten.
  void encode_layer(int64_t layer);
  int64_t layers_done() const { return layers_done_; }

  /// The bytes of a weight of the layer encoded last, rows in GGUF's order; empty where the weight
  /// is not rounded.
  std::span<const std::byte> encoded(const Weight& weight) const;

 private:
  using Grams = std::map<Role, class GramAccumulator>;

  void embed();
  Grams gather(const LayerWeights& weights);
  void encode_site(Role site, const std::vector<float>& gram, int64_t layer, LayerWeights& weights);
  void encode_weight(const Weight& weight, const Format& format, const Hessian& hessian);
  void run_samples(const LayerWeights& weights, const SiteObserver* observer, bool keep);
  const Format* rounded_format(const Weight& weight) const;

  const Model& model_;
  const std::map<const Weight*, const Format*>& formats_;
  std::vector<std::vector<Token>> samples_;
  GptqOptions options_;
  ThreadPool& pool_;
  ModelConfig one_layer_;
  RopeTable rope_;
  KvCache cache_;
  LayerBuffers buffers_;
  std::vector<float> hidden_;  ///< [sample][token][hidden size], as the next layer is fed
  std::map<const Weight*, std::vector<std::byte>> encoded_;
  int64_t layers_done_ = 0;
};

/// The calibrated bytes of a plan's weights, a layer at a time, as run_quantize asks for them.
class CalibratedEncoder {
 public:
  CalibratedEncoder(const Model& model, const QuantizePlan& plan,
                    std::vector<std::vector<Token>> samples, ThreadPool& pool);

  std::span<const std::byte> encode(const PlannedWeight& planned);

 private:
  std::map<const Weight*, const Format*> formats_;
  CalibratedLayers layers_;
};

}  // namespace fewbits
