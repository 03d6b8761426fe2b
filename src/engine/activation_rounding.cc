#include "engine/activation_rounding.h"

#include <algorithm>
#include <initializer_list>
#include <map>
#include <span>
#include <string>

#include "engine/layer.h"
#include "engine/parallel.h"

namespace fewbits {
namespace {

constexpr int64_t kTokensPerTask = 4;

/// The layer of a tensor in the words of a quantized folder.
std::string module_of(const StoredTensor& tensor) {
  constexpr std::string_view kWeight = ".weight";
  const std::string& name = tensor.name;
  return name.ends_with(kWeight) ? name.substr(0, name.size() - kWeight.size()) : name;
}

std::vector<const StoredTensor*> tensors_of(const Weight& weight) {
  if (!weight.parts.empty()) return weight.parts;
  return {weight.tensor};
}

/// Decides for the sites of one layer.
class Rounder {
 public:
  Rounder(const Model& model, int64_t layer, const ActivationOptions& options)
      : model_(model), layer_(layer), options_(options) {}

  /// `readers` are the weights that read the input, `matrices` what became of them.
  InputRounding of(std::initializer_list<Role> readers,
                   std::initializer_list<std::span<const PackedMatrix>> matrices) const {
    InputRounding rounding{.format = options_.format};
    if (options_.as_stored) {
      rounding.format = nullptr;
      for (const Role role : readers) take_stored(model_.find(role, layer_), rounding);
    }
    if (rounding.format == nullptr || !rounding.format->codes) return rounding;
    rounding.in_kernels = true;
    for (const std::span<const PackedMatrix> some : matrices) {
      for (const PackedMatrix& matrix : some) {
        if (matrix.rows() > 0 && !matrix.multiplies_codes()) rounding.in_kernels = false;
      }
    }
    return rounding;
  }

  /// Of a cache filled by a weight.
  float cache_scale(const std::map<std::string, float>& scales,
                    std::initializer_list<Role> roles) const {
    for (const Role role : roles) {
      const Weight* weight = model_.find(role, layer_);
      if (weight == nullptr || scales.empty()) continue;
      const std::string module = module_of(*tensors_of(*weight).front());
      for (const std::string& name : {module, module.substr(0, module.rfind('.'))}) {
        if (const auto found = scales.find(name); found != scales.end()) return found->second;
      }
    }
    return 0;
  }

 private:
  /// Only weights that are quantized ask for it. Where static scales of one input differ, the
  /// largest serves all, as in kernels for fused layers.
  void take_stored(const Weight* weight, InputRounding& rounding) const {
    if (weight == nullptr) return;
    const ActivationScheme& scheme = model_.activations;
    for (const StoredTensor* tensor : tensors_of(*weight)) {
      if (tensor->joined == nullptr) continue;
      rounding.format = scheme.inputs.format;
      const auto scale = scheme.input_scales.find(module_of(*tensor));
      if (scale != scheme.input_scales.end())
        rounding.static_scale = std::max(rounding.static_scale, scale->second);
    }
  }

  const Model& model_;
  int64_t layer_;
  const ActivationOptions& options_;
};

}  // namespace

ActivationOptions activation_options(std::string_view name) {
  if (name.empty()) return {};
  if (name == "none") return {.as_stored = false};
  return {.as_stored = false, .format = &activation_format_named(name)};
}

const InputRounding& LayerRounding::of(Role site) const {
  switch (site) {
    case Role::kKeyValue:
      return key_value;
    case Role::kAttentionOutput:
      return attention_output;
    case Role::kGate:
      return gate;
    case Role::kDown:
      return down;
    default:
      return query;
  }
}

LayerRounding layer_rounding(const Model& model, int64_t layer, const LayerWeights& weights,
                             const ActivationOptions& options) {
  using enum Role;
  const Rounder rounder(model, layer, options);
  const auto one = [](const PackedMatrix& matrix) { return std::span(&matrix, 1); };
  const ExpertWeights& experts = weights.experts;
  LayerRounding result;
  result.query =
      rounder.of({kQuery, kKey, kValue, kQueryKeyValue, kLatent},
                 {one(weights.query), one(weights.key), one(weights.value), one(weights.latent)});
  result.key_value = rounder.of({kKeyValue}, {one(weights.key_value)});
  result.attention_output = rounder.of({kAttentionOutput}, {one(weights.attention_output)});
  result.gate = rounder.of({kGate, kUp, kGateUp, kExpertGate, kExpertUp, kSharedGate, kSharedUp},
                           {one(weights.gate), one(weights.up), experts.gate, experts.up,
                            one(experts.shared_gate), one(experts.shared_up)});
  result.down = rounder.of({kDown, kExpertDown, kSharedDown},
                           {one(weights.down), experts.down, one(experts.shared_down)});
  if (!options.as_stored || !options.cache_scales) return result;
  const ActivationScheme& scheme = model.activations;
  result.key_scale = rounder.cache_scale(scheme.key_scales, {kKey, kQueryKeyValue});
  result.value_scale = rounder.cache_scale(scheme.value_scales, {kValue, kQueryKeyValue});
  return result;
}

bool wants_floats(const Model& model, const ActivationOptions& options) {
  const ActivationFormat* format =
      options.as_stored ? model.activations.inputs.format : options.format;
  return format != nullptr && !format->codes;
}

void assign_rounded(const InputRounding& rounding, const float* values, int64_t tokens,
                    int64_t columns, std::vector<float>& scratch, Activations& input,
                    ThreadPool& pool) {
  if (rounding.format == nullptr) return input.assign(values, tokens, columns);
  CodeScales scales;
  if (rounding.format->codes) {
    const bool given = rounding.static_scale > 0;
    scales = {given ? CodeScales::kGiven : CodeScales::kToken, rounding.static_scale};
  }
  if (rounding.in_kernels) return input.assign(values, tokens, columns, scales);
  scratch.resize(std::max(scratch.size(), static_cast<size_t>(tokens * columns)));
  parallel_for(pool, tokens, kTokensPerTask, [&](int64_t t) {
    round_activations(*rounding.format, values + t * columns, columns, rounding.static_scale,
                      scratch.data() + t * columns);
  });
  input.assign(scratch.data(), tokens, columns, scales);
}

}  // namespace fewbits
