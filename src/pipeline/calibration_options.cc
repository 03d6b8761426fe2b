#include "pipeline/calibration_options.h"

namespace fewbits {

StreamOptions streams_fitting(StreamOptions options, const Model& model) {
  const auto has = [&](Role role) { return model.find(role, 0) != nullptr; };
  const bool plain = !model.config.design.parallel && has(Role::kAttentionNorm) &&
                     has(Role::kMlpNorm) && !has(Role::kAttentionPostNorm) &&
                     !has(Role::kMlpPostNorm) && !has(Role::kLatent) && model.config.experts == 0;
  options.follow_outputs = options.follow_outputs && plain;
  return options;
}

}  // namespace fewbits
