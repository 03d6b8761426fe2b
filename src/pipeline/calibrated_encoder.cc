#include "pipeline/calibrated_encoder.h"

#include <utility>

#include "base/error.h"

namespace fewbits {
namespace {

std::map<const Weight*, const Format*> formats_of(const QuantizePlan& plan) {
  std::map<const Weight*, const Format*> formats;
  for (const PlannedWeight& planned : plan.weights) {
    formats[planned.weight] = &planned.rounded_format();
  }
  return formats;
}

}  // namespace

CalibratedEncoder::CalibratedEncoder(const Model& model, const QuantizePlan& plan,
                                     std::vector<std::vector<Token>> samples,
                                     const CalibrationOptions& options, ThreadPool& pool)
    : formats_(formats_of(plan)), layers_(model, formats_, std::move(samples), options, pool) {}

RoundedWeight CalibratedEncoder::encode(const PlannedWeight& planned) {
  const int64_t layer = planned.weight->layer;
  while (layers_.layers_done() <= layer) layers_.encode_layer(layers_.layers_done());
  if (layer < 0) return {};
  check(layer + 1 == layers_.layers_done());  // plans list the layers in order
  return layers_.encoded(*planned.weight);
}

}  // namespace fewbits
