#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "engine/layer.h"
#include "model/model.h"
#include "pipeline/calibrated_experts.h"
#include "pipeline/calibration_options.h"
#include "pipeline/matrix_rounding.h"
#include "pipeline/quantize.h"
#include "pipeline/sample_streams.h"

// Calibrated quantization, one decoder layer after another, its matrices in the order in which they
// are used: the second moments of what each is really fed, behind all that was rounded before, are
// gathered, and GPTQ rounds it with them.
//
// Columns can be scaled first where that costs nothing (column_scales.h): the inverse goes into the
// gains of the norm before query, key, value, gate and up, and into the rows of value and up for
// attention output and down. And a matrix can be fitted to the outputs that the 16-bit model has
// there, which a second stream of hidden states says, instead of to its weights; nothing has shown
// yet that this helps (docs/methods.md).
namespace fewbits {

class CalibratedLayers {
 public:
  /// `formats` says what each weight becomes; weights in float formats stay as they are, and so do
  /// vectors but for the gains of norms. All references must outlive this object.
  CalibratedLayers(const Model& model, const std::map<const Weight*, const Format*>& formats,
                   std::vector<std::vector<Token>> samples, const CalibrationOptions& options,
                   ThreadPool& pool);

  /// Layers come in order; those before are forgotten.
  void encode_layer(int64_t layer);

  /// In place of encode_layer where its bytes are known from a run that went before: the samples
  /// go through the layer as it was rounded then.
  void restore_layer(int64_t layer, const RoundedBefore& before);
  int64_t layers_done() const { return layers_done_; }

  /// What could not be fitted as it should, a line each.
  std::vector<std::string> warnings() const;

  /// A weight of the layer encoded last.
  RoundedWeight encoded(const Weight& weight) const;

 private:
  const Weight* find(Role role) const { return model_.find(role, layers_done_); }
  const Format* rounded_format(const Weight& weight) const;
  bool rounded(Role role) const;
  std::vector<const Weight*> rounded_readers(Role site) const;
  bool norm_can_scale(Role site) const;
  bool scales() const { return options_.scaling != ColumnScaling::kNone; }
  bool needs_reference() const {
    return scales() || options_.streams.follow_outputs || options_.learning.wanted();
  }

  void refuse_broken_weights(int64_t layer) const;
  LayerWeights run_reference(int64_t layer);
  void restore_gains(Role site, const RoundedBefore& before, LayerWeights& weights);
  void scale_rows_of_value();
  void scale_rows_of_up();
  std::vector<float> scales_of_columns(Role site) const;
  std::span<const float> scales_of_rows(Role role) const;
  std::vector<float> scale_norm(SiteMoments& moments, LayerWeights& weights);
  void warn_of_nothing(const Weight& reader, const SiteMoments& moments);
  void encode_site(Role site, const LayerWeights& original, LayerWeights& weights);
  const Weight* corrected_bias(const Weight& weight) const;
  void correct_bias(const Weight& weight, const MatrixRounding& rounding, LayerWeights& weights);
  void restore_biases(Role site, const RoundedBefore& before, LayerWeights& weights);
  void replace(const Weight& weight, LayerWeights& weights);
  void learn(LayerWeights& weights);

  const Model& model_;
  const std::map<const Weight*, const Format*>& formats_;
  std::vector<std::vector<Token>> samples_;
  CalibrationOptions options_;
  ThreadPool& pool_;
  SampleStreams streams_;
  CalibratedExperts experts_;
  std::map<Role, std::vector<float>> row_scales_;   ///< rows of value and up are divided by these
  std::map<const Weight*, EncodedMatrix> encoded_;  ///< and norms and biases that were changed
  KvRange kv_range_;                                ///< of the layer encoded last
  int64_t layers_done_ = 0;
  std::vector<std::string> warnings_;
};

}  // namespace fewbits
