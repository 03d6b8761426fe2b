#include "pipeline/layer_biases.h"

namespace fewbits {

Role bias_of(Role matrix) {
  switch (matrix) {
    case Role::kQuery:
      return Role::kQueryBias;
    case Role::kKey:
      return Role::kKeyBias;
    case Role::kValue:
      return Role::kValueBias;
    case Role::kQueryKeyValue:
      return Role::kQueryKeyValueBias;
    case Role::kAttentionOutput:
      return Role::kAttentionOutputBias;
    case Role::kUp:
      return Role::kUpBias;
    default:
      return Role::kDownBias;
  }
}

std::vector<std::vector<float>*> bias_parts(Role bias, LayerWeights& weights) {
  switch (bias) {
    case Role::kQueryBias:
      return {&weights.query_bias};
    case Role::kKeyBias:
      return {&weights.key_bias};
    case Role::kValueBias:
      return {&weights.value_bias};
    case Role::kQueryKeyValueBias:
      return {&weights.query_bias, &weights.key_bias, &weights.value_bias};
    case Role::kAttentionOutputBias:
      return {&weights.attention_output_bias};
    case Role::kUpBias:
      return {&weights.up_bias};
    default:
      return {&weights.down_bias};
  }
}

}  // namespace fewbits
