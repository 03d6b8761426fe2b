#pragma once

#include <cstdint>
#include <vector>

#include "base/thread_pool.h"
#include "formats/activation_format.h"
#include "kernels/matmul.h"
#include "model/model.h"

// What is done with the inputs of a decoder's layers before they are multiplied: nothing, or they
// are rounded as an engine with kernels for such activations would. Linear maps of the layers read
// rounded inputs; the output layer, and the router of experts, do not (as in vLLM).
namespace fewbits {

struct LayerWeights;

struct ActivationOptions {
  bool as_stored = true;  ///< as the model's folder says; else by `format`
  const ActivationFormat* format = nullptr;
  bool cache_scales = true;  ///< with as_stored: the folder's scales for a cache in E4M3 count too
};

/// The option as users name it: "" (as stored), "none" or a format. Throws Error.
ActivationOptions activation_options(std::string_view name);

/// Of the maps that read one input.
struct InputRounding {
  const ActivationFormat* format = nullptr;  ///< null: floats
  float static_scale = 0;                    ///< 0: found as values come
  bool in_kernels = false;  ///< all these maps multiply codes, and these are what is wanted
};

struct LayerRounding {
  InputRounding query, key_value, attention_output, gate, down;  ///< by what reads it first
  float key_scale = 0, value_scale = 0;                          ///< of a cache in E4M3; 0: none

  const InputRounding& of(Role site) const;
};

/// REQUIRES: `weights` are those of the layer.
LayerRounding layer_rounding(const Model& model, int64_t layer, const LayerWeights& weights,
                             const ActivationOptions& options);

/// Whether some layer's rounding wants inputs that integer kernels would round once more.
bool wants_floats(const Model& model, const ActivationOptions& options);

/// Gives `input` the values [tokens][columns], rounded; in `scratch` where they must be kept.
void assign_rounded(const InputRounding& rounding, const float* values, int64_t tokens,
                    int64_t columns, std::vector<float>& scratch, Activations& input,
                    ThreadPool& pool);

}  // namespace fewbits
