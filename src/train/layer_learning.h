#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "engine/rope.h"
#include "train/dense_layer.h"
#include "train/learned_rounding.h"

namespace fewbits {

/// What a decoder layer is fed and what it should give, whole samples one after another,
/// [tokens][hidden].
struct LayerSamples {
  int64_t count = 0, length = 0;  ///< samples, tokens of each
  std::vector<float> inputs = {}, wanted = {};

  Batch batch() const { return {count, length}; }
};

/// A decoder layer whose matrices learn their rounding from its outputs. The loss is the mean over
/// tokens of |y - wanted|^2 / |wanted|^2: a norm reads the sum next, so each token counts by what
/// it lost of itself, else few with huge states would count alone.
class LayerLearner {
 public:
  /// `layer`: everything as the layer computes with it; matrices in `roundings` are replaced by
  /// what those say. References must outlive this object.
  LayerLearner(const ModelConfig& config, const RopeTable& rope, DenseLayer layer,
               std::map<Role, LearnedRounding> roundings, ThreadPool& pool);

  /// The loss, with the layer as it would be stored.
  double loss(const LayerSamples& samples);

  /// One step; returns the loss before it.
  double step(const LayerSamples& samples, const RoundingRates& rates);

  /// The layer's output in place of the samples' inputs.
  void run(const LayerSamples& samples, std::vector<float>& states);

  std::map<Role, std::vector<std::byte>> bytes() const;

 private:
  void refresh();

  const ModelConfig& config_;
  const RopeTable& rope_;
  DenseLayer layer_;
  std::map<Role, LearnedRounding> roundings_;
  ThreadPool& pool_;
  LayerTape tape_;
  std::optional<DenseLayers> steps_;  ///< keeps its buffers from step to step
  Batch batch_;                       ///< of those
  bool stale_ = true;                 ///< matrices of layer_ are not what the roundings say
};

}  // namespace fewbits
