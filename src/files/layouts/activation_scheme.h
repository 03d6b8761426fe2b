#pragma once

#include <map>
#include <string>
#include <string_view>

#include "base/json.h"
#include "formats/activation_format.h"

// What a quantized model folder says of the inputs of its layers and of its KV cache, beside the
// weights.
namespace fewbits {

class Parts;

/// What kernels shall do with the inputs of the quantized layers.
struct InputRule {
  const ActivationFormat* format = nullptr;  ///< null: nothing
  bool is_static = false;                    ///< by scales that the folder has
  std::string unknown = {};                  ///< where it is said in a way that nobody here knows
};

struct ActivationScheme {
  InputRule inputs = {};
  /// Of static inputs, by the name of the layer without ".weight"; as round_activations wants them.
  std::map<std::string, float> input_scales = {};
  /// Of a KV cache in E4M3 (value = scale * code), by the name of the attention's module.
  std::map<std::string, float> key_scales = {}, value_scales = {};
};

/// Of compressed-tensors, "input_activations" of the groups; of fp8, "activation_scheme".
InputRule compressed_tensors_inputs(const Json& config);
InputRule fp8_inputs(const Json& config);

/// The scales of the folder's tensors by a rule of its config. Throws Error where one is no
/// positive number.
ActivationScheme read_activation_scheme(const Parts& parts, InputRule rule);

}  // namespace fewbits
