#pragma once

#include <map>
#include <string>
#include <vector>

#include "pipeline/calibrated_layers.h"

namespace fewbits {

/// The calibrated bytes of a plan's weights, a layer at a time, as run_quantize asks for them.
class CalibratedEncoder {
 public:
  CalibratedEncoder(const Model& model, const QuantizePlan& plan,
                    std::vector<std::vector<Token>> samples, const CalibrationOptions& options,
                    ThreadPool& pool);

  RoundedWeight encode(const PlannedWeight& planned);
  std::vector<std::string> warnings() const { return layers_.warnings(); }
  void restore_layer(int64_t layer, const RoundedBefore& before) {
    layers_.restore_layer(layer, before);
  }

 private:
  std::map<const Weight*, const Format*> formats_;
  CalibratedLayers layers_;
};

}  // namespace fewbits
