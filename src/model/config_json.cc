#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <vector>

#include "base/error.h"
#include "model/config_parts.h"

// config.json. The same number has another name in nearly every family.
namespace fewbits {
namespace {

// What transformers' LlamaConfig takes where a key is missing.
constexpr int64_t kDefaultContext = 2048;
constexpr double kDefaultEpsilon = 1e-6;

void refuse_unsupported(const Architecture& architecture, const Json& config,
                        std::string_view where) {
  for (const auto& [key, json] : architecture.demanded) {
    const auto found = config.find(std::string(key));
    if (found == config.end() || found->is_null() || found->dump() == json) continue;
    throw Error(fmt::format("{}: '{}: {}' is not supported for {}, only {}", where, key,
                            found->dump(), architecture.name, json));
  }
}

int64_t part_of_head(double part, const ModelConfig& config, std::string_view where) {
  if (!(part > 0 && part <= 1)) {
    throw Error(
        fmt::format("{}: rotary part of a head is {}, must be above 0 and at most 1", where, part));
  }
  const auto dims = static_cast<int64_t>(part * static_cast<double>(config.head_dim));
  return dims == config.head_dim ? 0 : dims;
}

/// One set of rotary parameters.
void read_rope_object(const Json& rope, const Json& json, ModelConfig& config,
                      std::string_view where) {
  config.rope_theta = json_number_or(rope, "rope_theta", config.rope_theta, where);
  config.rope_scaling = read_rope_scaling(rope, json, where);
  const double part = json_number_or(rope, "partial_rotary_factor", 0, where);
  if (part != 0) config.rotary_dims = part_of_head(part, config, where);
}

/// Since transformers 5 theta and scaling stand together in rope_parameters, where layers differ
/// once for each kind of layer; before, theta stood alone.
void read_rope(const Json& json, ModelConfig& config, std::string_view where) {
  config.rope_theta = json_number_or(json, "rope_theta", kDefaultTheta, where);
  for (const char* key : {"partial_rotary_factor", "rope_pct", "rotary_pct"}) {
    const double part = json_number_or(json, key, 0, where);
    if (part != 0) config.rotary_dims = part_of_head(part, config, where);
  }
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const auto rope = json.find(key);
    if (rope == json.end() || rope->is_null()) continue;
    if (!rope->is_object()) throw Error(fmt::format("{}: '{}' must be an object", where, key));
    const auto full = rope->find("full_attention"), local = rope->find("sliding_attention");
    if (full == rope->end() || local == rope->end()) {
      read_rope_object(*rope, json, config, where);
      continue;
    }
    read_rope_object(*full, json, config, where);
    config.rope_theta_local = json_number_or(*local, "rope_theta", 0, where);
  }
}

void read_window(const Architecture& architecture, const Json& json, ModelConfig& config,
                 std::string_view where) {
  if (!json_bool_or(json, "use_sliding_window", true, where)) return;
  config.sliding_window = json_integer_or(json, "sliding_window", 0, where);
  config.full_period =
      json_integer_or(json, "sliding_window_pattern", architecture.full_period, where);
  const auto kinds = json.find("layer_types");
  if (kinds != json.end() && kinds->is_array()) {
    std::vector<bool> full;
    for (const Json& kind : *kinds) full.push_back(kind == "full_attention");
    config.full_period = full_period_of(full, config.design.full_first, where);
  }
  if (config.full_period == 1) config.sliding_window = 0;
}

/// The first of the keys that stands in the config, or the last, for the message that it is
/// missing: the same number has another name in nearly every family.
const char* one_of(const Json& json, std::initializer_list<const char*> keys) {
  for (const char* key : keys) {
    const auto found = json.find(key);
    if (found != json.end() && !found->is_null()) return key;
  }
  return *keys.begin();
}

void read_experts(const Architecture& architecture, const Json& json, ModelConfig& config,
                  std::string_view where) {
  config.experts = json_integer_or(
      json, one_of(json, {"num_local_experts", "num_experts", "n_routed_experts"}), 0, where);
  config.experts_used = json_integer_or(json, "num_experts_per_tok", 0, where);
  config.expert_ffn = json_integer_or(json, "moe_intermediate_size", config.ffn, where);
  if (!has_role(architecture, Role::kSharedGate)) return;
  config.dense_layers = json_integer_or(json, "first_k_dense_replace", 0, where);
  config.expert_scale = json_number_or(json, "routed_scaling_factor", 1, where);
  config.shared_ffn = checked_product(json_integer_or(json, "n_shared_experts", 0, where),
                                      config.expert_ffn, "shared experts", where);
}

int64_t read_ffn(const Architecture& architecture, const Json& json, const ModelConfig& config,
                 std::string_view where) {
  const char* key = one_of(json, {"intermediate_size", "ffn_hidden_size", "n_inner", "ffn_dim"});
  if (architecture.ffn_multiple == 0 || config.hidden < 1) return json_integer(json, key, where);
  constexpr int64_t kNoOverflow = int64_t{1} << 40;
  return json_integer_or(json, key,
                         architecture.ffn_multiple * std::min(config.hidden, kNoOverflow), where);
}

void read_sizes(const Architecture& architecture, const Json& json, ModelConfig& config,
                std::string_view where) {
  config.hidden = json_integer(json, one_of(json, {"hidden_size", "n_embd"}), where);
  config.layers = json_integer(json, one_of(json, {"num_hidden_layers", "n_layer"}), where);
  config.heads = json_integer(json, one_of(json, {"num_attention_heads", "n_head"}), where);
  config.kv_heads = json_integer_or(json, one_of(json, {"num_key_value_heads", "num_kv_heads"}),
                                    config.heads, where);
  config.ffn = read_ffn(architecture, json, config, where);
  config.vocabulary = json_integer(json, "vocab_size", where);
  config.context =
      json_integer_or(json, one_of(json, {"max_position_embeddings", "n_positions", "n_ctx"}),
                      kDefaultContext, where);
  const int64_t head_dim = json_integer_or(json, "head_dim", 0, where);
  config.head_dim = head_dim != 0 ? head_dim : derived_head_dim(config, where);
}

}  // namespace

ModelConfig read_config(const Architecture& architecture, const Json& stated,
                        std::string_view where) {
  refuse_unsupported(architecture, stated, where);
  Json json = architecture.defaults.empty() ? Json::object()
                                            : parse_json(architecture.defaults, architecture.name);
  for (const auto& [key, value] : stated.items()) json[key] = value;
  ModelConfig config;
  config.design = architecture.design;
  read_sizes(architecture, json, config, where);
  read_window(architecture, json, config, where);
  config.norm_epsilon = json_number_or(
      json, one_of(json, {"rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_eps"}),
      kDefaultEpsilon, where);
  config.tied_embeddings =
      json_bool_or(json, "tie_word_embeddings", architecture.tied_by_default, where);
  for (const NumberKey& key : architecture.numbers) {
    const double standard = config.*key.field;
    const double value = json_number_or(json, std::string(key.hugging_face).c_str(),
                                        key.inverse ? 1 / standard : standard, where);
    config.*key.field = key.inverse ? 1 / value : value;
  }
  if (has_role(architecture, Role::kRouter)) read_experts(architecture, json, config, where);
  config.token_types = json_integer_or(json, "type_vocab_size", 0, where);
  if (config.has_rope()) read_rope(json, config, where);
  const RopeScaling::Kind kind = config.rope_scaling.kind;
  const bool in_tensors =
      kind == RopeScaling::Kind::kLlama3 || kind == RopeScaling::Kind::kLongRope;
  if (in_tensors && !has_role(architecture, Role::kRopeFactors)) {
    throw Error(
        fmt::format("{}: rotary positions scaled as Llama 3's or by longrope are not "
                    "supported for {}",
                    where, architecture.name));
  }
  if (architecture.complete != nullptr) architecture.complete(config, &json, where);
  check_config(config, where);
  return config;
}

}  // namespace fewbits
