#include "files/layouts/activation_scheme.h"

#include <fmt/format.h>

#include <cmath>
#include <optional>

#include "files/layouts/parts.h"

namespace fewbits {
namespace {

/// A member of an object; null where there is none.
const Json& member(const Json& json, const char* key) {
  static const Json kNothing;
  const auto found = json.is_object() ? json.find(key) : json.end();
  return json.is_object() && found != json.end() ? *found : kNothing;
}

std::string text_of(const Json& json) {
  return json.is_string() ? json.get<std::string>() : std::string();
}

int64_t number_of(const Json& json) {
  return json.is_number_integer() ? json.get<int64_t>() : 0;
}

struct KnownInputs {
  int64_t bits;
  std::string_view type, strategy;
  int64_t group;
  std::string_view format;
};

constexpr KnownInputs kKnownInputs[] = {
    {8, "int", "token", 0, "int8"},
    {8, "int", "tensor", 0, "int8"},
    {8, "float", "token", 0, "fp8"},
    {8, "float", "tensor", 0, "fp8"},
    {8, "float", "group", 128, "fp8_g128"},
    {8, "float", "group", 32, "mxfp8"},
    {4, "int", "token", 0, "int4"},
    {4, "float", "group", 32, "mxfp4"},
    {4, "float", "tensor_group", 16, "nvfp4"},
};

InputRule unknown(const Json& inputs) {
  constexpr size_t kMostShown = 200;
  return {.unknown =
              inputs.dump(-1, ' ', true, Json::error_handler_t::replace).substr(0, kMostShown)};
}

InputRule rule_of(const Json& inputs) {
  if (inputs.is_null()) return {};
  const Json& dynamic = member(inputs, "dynamic");
  const bool is_static = dynamic.is_boolean() ? !dynamic.get<bool>() : dynamic.is_string();
  const Json& symmetric = member(inputs, "symmetric");
  if (symmetric.is_boolean() && !symmetric.get<bool>()) return unknown(inputs);
  const std::string type = text_of(member(inputs, "type"));
  const std::string strategy = text_of(member(inputs, "strategy"));
  const bool whole_tensor = strategy == "tensor";
  for (const KnownInputs& known : kKnownInputs) {
    if (known.bits != number_of(member(inputs, "num_bits")) || known.type != type) continue;
    if (known.strategy != strategy) continue;
    if (known.group != 0 && known.group != number_of(member(inputs, "group_size"))) continue;
    const ActivationFormat& format = activation_format_named(known.format);
    // Kernels have static scales for a tensor alone, and a dynamic one of it would depend on what
    // else is in the batch.
    const bool levels = format.scale == ActivationFormat::Scale::kE4M3;
    if (!levels && is_static != whole_tensor) break;
    return {&format, is_static};
  }
  return unknown(inputs);
}

bool same(const InputRule& a, const InputRule& b) {
  return a.format == b.format && a.is_static == b.is_static && a.unknown == b.unknown;
}

float scale_in(const Parts& parts, const Part& part) {
  for (const int64_t extent : part.shape) {
    if (extent != 1) parts.fail(part, "must be one value");
  }
  const float scale = float_reader(parts, part)(part.bytes(), 0);
  // Of less than a normal number there is no inverse.
  if (!std::isnormal(scale) || scale < 0) parts.fail(part, "must be a positive number");
  return scale;
}

}  // namespace

InputRule compressed_tensors_inputs(const Json& config) {
  std::optional<InputRule> rule;
  const Json& groups = member(config, "config_groups");
  if (!groups.is_object()) return {};
  for (const Json& group : groups) {
    const InputRule next = rule_of(member(group, "input_activations"));
    if (rule && !same(*rule, next)) return {.unknown = "several groups with different inputs"};
    rule = next;
  }
  return rule.value_or(InputRule{});
}

InputRule fp8_inputs(const Json& config) {
  if (member(config, "weight_block_size").is_array()) return {&activation_format_named("fp8_g128")};
  const std::string scheme = text_of(member(config, "activation_scheme"));
  if (scheme == "static") return {&activation_format_named("fp8"), true};
  if (scheme == "dynamic") return {&activation_format_named("fp8")};
  return {};
}

ActivationScheme read_activation_scheme(const Parts& parts, InputRule rule) {
  ActivationScheme scheme{.inputs = std::move(rule)};
  const bool divides = scheme.inputs.format != nullptr && scheme.inputs.format->group > 0;
  const std::string_view input = divides ? ".input_global_scale" : ".input_scale";
  for (const auto& [name, part] : parts.all()) {
    const auto module = [&name = name](std::string_view end) {
      return name.substr(0, name.size() - end.size());
    };
    if (scheme.inputs.is_static && name.ends_with(input)) {
      const float scale = scale_in(parts, part);
      scheme.input_scales[module(input)] = divides ? 1 / scale : scale;
    }
    constexpr std::string_view kKey = ".k_scale", kValue = ".v_scale";
    if (name.ends_with(kKey)) scheme.key_scales[module(kKey)] = scale_in(parts, part);
    if (name.ends_with(kValue)) scheme.value_scales[module(kValue)] = scale_in(parts, part);
  }
  return scheme;
}

}  // namespace fewbits
