#include "model/architecture.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/text.h"

namespace fewbits {
namespace {

using Kind = RopeScaling::Kind;

using Positions = LayerDesign::Positions;

// What transformers' LlamaConfig takes where a key is missing.
constexpr int64_t kDefaultContext = 2048;
constexpr double kDefaultEpsilon = 1e-6;
constexpr double kDefaultTheta = 10000;
constexpr int64_t kDefaultOriginalContext = 8192;

constexpr std::string_view kTokenTypeCount = "tokenizer.ggml.token_type_count";

/// The architecture for which `matches` holds, or the Error that quotes `place` and lists what
/// `add_names` gives.
template <class Matches, class Names>
const Architecture& find_architecture(Matches matches, Names add_names, std::string_view where,
                                      const std::string& place) {
  std::vector<std::string> known;
  for (const Architecture* architecture : architectures()) {
    if (matches(*architecture)) return *architecture;
    add_names(*architecture, known);
  }
  std::sort(known.begin(), known.end());
  known.erase(std::unique(known.begin(), known.end()), known.end());
  throw Error(fmt::format("{}: {}", where, unknown_name(place, "known architecture", known)));
}

void refuse_unsupported(const Architecture& architecture, const Json& config,
                        std::string_view where) {
  for (const auto& [key, json] : architecture.demanded) {
    const auto found = config.find(std::string(key));
    if (found == config.end() || found->is_null() || found->dump() == json) continue;
    throw Error(fmt::format("{}: '{}: {}' is not supported for {}, only {}", where, key,
                            found->dump(), architecture.name, json));
  }
  const auto quantization = config.find("quantization_config");
  if (quantization == config.end() || !quantization->is_object()) return;
  throw Error(fmt::format(
      "{}: 'quantization_config' says that the weights are already quantized ({}); start from the "
      "16-bit model",
      where, json_string_or(*quantization, "quant_method", "method not named", where)));
}

RopeScaling read_rope_scaling(const Json& rope, std::string_view where) {
  // The key was "type" before transformers 4.43.
  const std::string type =
      json_string_or(rope, "rope_type", json_string_or(rope, "type", "default", where), where);
  if (type == "default") return {};
  if (type == "linear")
    return {.kind = Kind::kLinear, .factor = json_number(rope, "factor", where)};
  if (type == "llama3") {
    return {.kind = Kind::kLlama3,
            .factor = json_number_or(rope, "factor", 8, where),
            .low_frequency_factor = json_number_or(rope, "low_freq_factor", 1, where),
            .high_frequency_factor = json_number_or(rope, "high_freq_factor", 4, where),
            .original_context = json_integer_or(rope, "original_max_position_embeddings",
                                                kDefaultOriginalContext, where)};
  }
  throw Error(fmt::format(
      "{}: 'rope_type: \"{}\"' is not supported; known: default, linear, llama3", where, type));
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
void read_rope_object(const Json& rope, ModelConfig& config, std::string_view where) {
  config.rope_theta = json_number_or(rope, "rope_theta", config.rope_theta, where);
  config.rope_scaling = read_rope_scaling(rope, where);
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
      read_rope_object(*rope, config, where);
      continue;
    }
    read_rope_object(*full, config, where);
    config.rope_theta_local = json_number_or(*local, "rope_theta", 0, where);
  }
}

/// Every how many layers one sees all tokens, from the list of all layers.
int64_t period_of(const Json& kinds, std::string_view where) {
  const auto full = [](const Json& kind) { return kind == "full_attention"; };
  const auto first = std::find_if(kinds.begin(), kinds.end(), full);
  if (first == kinds.end()) return 0;
  const auto period = static_cast<size_t>(first - kinds.begin()) + 1;
  for (size_t i = 0; i < kinds.size(); ++i) {
    if (full(kinds[i]) == ((i + 1) % period == 0)) continue;
    throw Error(
        fmt::format("{}: 'layer_types' has no full attention layer every {}", where, period));
  }
  return static_cast<int64_t>(period);
}

void read_window(const Architecture& architecture, const Json& json, ModelConfig& config,
                 std::string_view where) {
  if (!json_bool_or(json, "use_sliding_window", true, where)) return;
  config.sliding_window = json_integer_or(json, "sliding_window", 0, where);
  config.full_period =
      json_integer_or(json, "sliding_window_pattern", architecture.full_period, where);
  const auto kinds = json.find("layer_types");
  if (kinds != json.end() && kinds->is_array()) config.full_period = period_of(*kinds, where);
  if (config.full_period == 1) config.sliding_window = 0;
}

int64_t derived_head_dim(const ModelConfig& config, std::string_view where) {
  if (config.heads < 1) return 0;  // check_config says what is wrong
  if (config.hidden % config.heads == 0) return config.hidden / config.heads;
  throw Error(fmt::format(
      "{}: hidden size {} is no multiple of {} attention heads, and no head size is given", where,
      config.hidden, config.heads));
}

bool has_experts(const Architecture& architecture) {
  return std::ranges::any_of(architecture.tensors,
                             [](const TensorName& name) { return name.role == Role::kRouter; });
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

void read_experts(const Json& json, ModelConfig& config, std::string_view where) {
  config.experts =
      json_integer_or(json, one_of(json, {"num_local_experts", "num_experts"}), 0, where);
  config.experts_used = json_integer_or(json, "num_experts_per_tok", 0, where);
  config.expert_ffn = json_integer_or(json, "moe_intermediate_size", config.ffn, where);
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

/// The ARCH.* keys of one GGUF.
class GgufKeys {
 public:
  GgufKeys(const Metadata& metadata, std::string_view prefix, std::string_view where)
      : metadata_(metadata), prefix_(prefix), where_(where) {}

  std::string name(std::string_view key) const { return fmt::format("{}.{}", prefix_, key); }

  int64_t integer(std::string_view key) const { return need(metadata_.integer(name(key)), key); }
  double number(std::string_view key) const { return need(metadata_.number(name(key)), key); }
  int64_t integer_or(std::string_view key, int64_t fallback) const {
    return metadata_.integer(name(key)).value_or(fallback);
  }
  double number_or(std::string_view key, double fallback) const {
    return metadata_.number(name(key)).value_or(fallback);
  }
  std::optional<double> optional_number(std::string_view key) const {
    return metadata_.number(name(key));
  }
  std::string string_or(std::string_view key, std::string fallback) const {
    return metadata_.string(name(key)).value_or(std::move(fallback));
  }

  /// For keys that restate what other keys say.
  void demand(std::string_view key, int64_t wanted) const {
    const int64_t found = integer_or(key, wanted);
    if (found == wanted) return;
    throw Error(
        fmt::format("{}: '{}' is {}, only {} is supported", where_, name(key), found, wanted));
  }

 private:
  template <class T>
  T need(std::optional<T> value, std::string_view key) const {
    if (!value) throw Error(fmt::format("{}: metadata key '{}' is missing", where_, name(key)));
    return *value;
  }

  const Metadata& metadata_;
  std::string_view prefix_;
  std::string_view where_;
};

/// Llama 3's scaling is not in the keys: GGUF keeps it as the tensor rope_freqs.weight.
RopeScaling read_rope_scaling(const GgufKeys& keys, std::string_view where) {
  const double factor =
      keys.number_or("rope.scaling.factor", keys.number_or("rope.scale_linear", 0));
  const std::string type = keys.string_or("rope.scaling.type", factor == 0 ? "none" : "linear");
  if (type == "none" || (type == "linear" && factor == 0)) return {};
  if (type == "linear") return {.kind = Kind::kLinear, .factor = factor};
  throw Error(fmt::format("{}: '{}' is '{}', not supported; known: linear, none", where,
                          keys.name("rope.scaling.type"), type));
}

std::string_view epsilon_key(const ModelConfig& config) {
  return config.design.norm == LayerDesign::Norm::kRms ? "attention.layer_norm_rms_epsilon"
                                                       : "attention.layer_norm_epsilon";
}

/// A number, or whether each layer slides.
void read_window_pattern(const GgufKeys& keys, const Metadata& metadata, ModelConfig& config,
                         std::string_view where) {
  const std::string key = keys.name("attention.sliding_window_pattern");
  const MetadataValue* value = metadata.find(key);
  if (value == nullptr || config.sliding_window == 0) return;
  if (value->type != ValueType::kArray) {
    config.full_period = keys.integer("attention.sliding_window_pattern");
    return;
  }
  const auto* slides = metadata.integers(key);
  if (slides == nullptr) throw Error(fmt::format("{}: '{}' must hold bools", where, key));
  Json kinds = Json::array();
  for (const int64_t sliding : *slides) {
    kinds.push_back(sliding != 0 ? "sliding_attention" : "full_attention");
  }
  config.full_period = period_of(kinds, where);
}

void read_window(const Architecture& architecture, const GgufKeys& keys, const Metadata& metadata,
                 ModelConfig& config, std::string_view where) {
  config.sliding_window = keys.integer_or("attention.sliding_window", 0);
  config.full_period = architecture.full_period;
  read_window_pattern(keys, metadata, config, where);
  if (config.full_period == 1) config.sliding_window = 0;
  config.rope_theta_local = keys.number_or("rope.freq_base_swa", 0);
}

Pooling read_pooling(const GgufKeys& keys, std::string_view where) {
  const int64_t number = keys.integer_or("pooling_type", 0);
  if (number >= 0 && number <= 3) return static_cast<Pooling>(number);
  throw Error(
      fmt::format("{}: '{}' is {}, not supported; known: 0 (none), 1 (mean), 2 (cls), 3 (last)",
                  where, keys.name("pooling_type"), number));
}

int64_t vocabulary_size(const GgufKeys& keys, const Metadata& metadata) {
  const auto* tokens = metadata.strings("tokenizer.ggml.tokens");
  return keys.integer_or("vocab_size",
                         tokens == nullptr ? 0 : static_cast<int64_t>(tokens->size()));
}

/// Keys that few architectures have.
void write_variants(const Architecture& architecture, const ModelConfig& config,
                    const GgufKeys& keys, Metadata& metadata) {
  if (config.sliding_window > 0) {
    metadata.set_uint32(keys.name("attention.sliding_window"), config.sliding_window);
    if (config.rope_theta_local != 0) {
      metadata.set_float(keys.name("rope.freq_base_swa"), config.rope_theta_local);
    }
    if (config.full_period != architecture.full_period) {
      metadata.set_uint32(keys.name("attention.sliding_window_pattern"), config.full_period);
    }
  }
  for (const NumberKey& key : architecture.numbers) {
    const double value = config.*key.field;
    if (key.gguf.empty() || value == 0) continue;
    metadata.set_float(keys.name(key.gguf), key.inverse ? 1 / value : value);
  }
  if (!config.design.causal) metadata.set_bool(keys.name("attention.causal"), false);
  if (config.token_types > 0) metadata.set_uint32(kTokenTypeCount, config.token_types);
  if (config.pooling != Pooling::kNone) {
    metadata.set_uint32(keys.name("pooling_type"), static_cast<int64_t>(config.pooling));
  }
  if (config.experts == 0) return;
  metadata.set_uint32(keys.name("expert_count"), config.experts);
  metadata.set_uint32(keys.name("expert_used_count"), config.experts_used);
  if (config.expert_ffn != config.ffn) {
    metadata.set_uint32(keys.name("expert_feed_forward_length"), config.expert_ffn);
  }
}

Shape head_norm_shape(const ModelConfig& config, int64_t heads) {
  using Kind = LayerDesign::QueryKeyNorm;
  switch (config.design.query_key_norm) {
    case Kind::kEachHead:
      return {heads, config.head_dim};
    case Kind::kRow:
      return {heads * config.head_dim};
    default:
      return {config.head_dim};
  }
}

/// The feed-forward part, and vectors as wide as the hidden state.
Shape shape_of_rest(Role role, const ModelConfig& config) {
  switch (role) {
    case Role::kGate:
    case Role::kUp:
      return {config.ffn, config.hidden};
    case Role::kUpBias:
      return {config.ffn};
    case Role::kGateUp:
      return {2 * config.ffn, config.hidden};
    case Role::kDown:
      return {config.hidden, config.ffn};
    case Role::kRouter:
      return {config.experts, config.hidden};
    case Role::kExpertGate:
    case Role::kExpertUp:
      return {config.experts, config.expert_ffn, config.hidden};
    case Role::kExpertDown:
      return {config.experts, config.hidden, config.expert_ffn};
    default:
      return {config.hidden};
  }
}

}  // namespace

Shape expected_shape(Role role, const ModelConfig& config) {
  const int64_t query_rows = config.heads * config.head_dim;
  const int64_t kv_rows = config.kv_heads * config.head_dim;
  switch (role) {
    case Role::kEmbedding:
    case Role::kOutput:
      return {config.vocabulary, config.hidden};
    case Role::kOutputBias:
      return {config.vocabulary};
    case Role::kTokenTypes:
      return {config.token_types, config.hidden};
    case Role::kPositions:
      return {config.context + config.position_offset, config.hidden};
    case Role::kRopeFactors:
      return {config.turned_dims() / 2};
    case Role::kQuery:
      return {query_rows, config.hidden};
    case Role::kQueryBias:
      return {query_rows};
    case Role::kKey:
    case Role::kValue:
      return {kv_rows, config.hidden};
    case Role::kKeyBias:
    case Role::kValueBias:
      return {kv_rows};
    case Role::kQueryKeyValue:
      return {query_rows + 2 * kv_rows, config.hidden};
    case Role::kQueryKeyValueBias:
      return {query_rows + 2 * kv_rows};
    case Role::kQueryNorm:
      return head_norm_shape(config, config.heads);
    case Role::kKeyNorm:
      return head_norm_shape(config, config.kv_heads);
    case Role::kAttentionOutput:
      return {config.hidden, query_rows};
    default:
      return shape_of_rest(role, config);
  }
}

bool is_linear_map(Role role) {
  using enum Role;
  switch (role) {
    case kEmbedding:
    case kOutput:
    case kQuery:
    case kKey:
    case kValue:
    case kQueryKeyValue:
    case kAttentionOutput:
    case kGate:
    case kUp:
    case kGateUp:
    case kDown:
    case kExpertGate:
    case kExpertUp:
    case kExpertDown:
      return true;
    default:
      return false;
  }
}

bool is_known_architecture(const Json& config) {
  const auto type = config.find("model_type");
  return type != config.end() && std::ranges::any_of(architectures(), [&](const Architecture* a) {
           return std::ranges::any_of(a->model_types, [&](auto known) { return *type == known; });
         });
}

bool is_known_architecture(const Metadata& metadata) {
  const auto name = metadata.string("general.architecture");
  return name && std::ranges::any_of(architectures(),
                                     [&](const Architecture* a) { return a->gguf_name == *name; });
}

const Architecture& architecture_of(const Json& config, std::string_view where) {
  const std::string type = json_string(config, "model_type", where);
  return find_architecture(
      [&](const Architecture& a) {
        return std::ranges::find(a.model_types, type) != a.model_types.end();
      },
      [](const Architecture& a, auto& known) {
        known.insert(known.end(), a.model_types.begin(), a.model_types.end());
      },
      where, fmt::format("model_type: \"{}\"", type));
}

const Architecture& architecture_of(const Metadata& metadata, std::string_view where) {
  const auto name = metadata.string("general.architecture");
  if (!name) throw Error(fmt::format("{}: metadata key 'general.architecture' is missing", where));
  return find_architecture(
      [&](const Architecture& a) { return a.gguf_name == *name; },
      [](const Architecture& a, auto& known) { known.emplace_back(a.gguf_name); }, where,
      fmt::format("general.architecture: \"{}\"", *name));
}

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
  if (has_experts(architecture)) read_experts(json, config, where);
  config.token_types = json_integer_or(json, "type_vocab_size", 0, where);
  if (config.has_rope()) read_rope(json, config, where);
  if (architecture.complete != nullptr) architecture.complete(config, &json, where);
  check_config(config, where);
  return config;
}

ModelConfig read_config(const Architecture& architecture, const Metadata& metadata,
                        std::string_view where) {
  // A model offered as a llama has keys of its own name.
  const std::string prefix =
      metadata.string("general.architecture").value_or(std::string(architecture.gguf_name));
  const GgufKeys keys(metadata, prefix, where);
  ModelConfig config;
  config.design = architecture.design;
  config.hidden = keys.integer("embedding_length");
  config.layers = keys.integer("block_count");
  config.heads = keys.integer("attention.head_count");
  config.kv_heads = keys.integer_or("attention.head_count_kv", config.heads);
  config.ffn = keys.integer("feed_forward_length");
  config.vocabulary = vocabulary_size(keys, metadata);
  config.context = keys.integer("context_length");
  read_window(architecture, keys, metadata, config, where);
  config.norm_epsilon = keys.number(epsilon_key(config));
  config.rope_theta = keys.number_or("rope.freq_base", kDefaultTheta);
  config.rope_scaling = read_rope_scaling(keys, where);
  const int64_t head_dim = keys.integer_or("attention.key_length", 0);
  config.head_dim = head_dim != 0 ? head_dim : derived_head_dim(config, where);
  config.rotary_dims = keys.integer_or("rope.dimension_count", 0);
  if (architecture.gguf_interleaves_rope) keys.demand("rope.dimension_count", config.head_dim);
  if (config.rotary_dims == config.head_dim || !config.has_rope()) config.rotary_dims = 0;
  for (const NumberKey& key : architecture.numbers) {
    const auto value = key.gguf.empty() ? std::nullopt : keys.optional_number(key.gguf);
    if (value && *value != 0) config.*key.field = key.inverse ? 1 / *value : *value;
  }
  if (has_experts(architecture)) {
    config.experts = keys.integer_or("expert_count", 0);
    config.experts_used = keys.integer_or("expert_used_count", 0);
    config.expert_ffn = keys.integer_or("expert_feed_forward_length", config.ffn);
  } else {
    keys.demand("expert_count", 0);
  }
  config.token_types = metadata.integer(kTokenTypeCount).value_or(0);
  config.pooling = read_pooling(keys, where);
  if (architecture.complete != nullptr) architecture.complete(config, nullptr, where);
  check_config(config, where);
  keys.demand("attention.value_length", config.head_dim);
  return config;
}

void write_config(const Architecture& architecture, const ModelConfig& config, Metadata& metadata) {
  const GgufKeys keys(metadata, architecture.gguf_name, "");
  metadata.set_uint32(keys.name("block_count"), config.layers);
  metadata.set_uint32(keys.name("context_length"), config.context);
  metadata.set_uint32(keys.name("embedding_length"), config.hidden);
  metadata.set_uint32(keys.name("feed_forward_length"), config.ffn);
  metadata.set_uint32(keys.name("attention.head_count"), config.heads);
  metadata.set_uint32(keys.name("attention.head_count_kv"), config.kv_heads);
  if (config.rope_scaling.kind == Kind::kLinear) {
    metadata.set_string(keys.name("rope.scaling.type"), "linear");
    metadata.set_float(keys.name("rope.scaling.factor"), config.rope_scaling.factor);
  }
  if (config.has_rope()) metadata.set_float(keys.name("rope.freq_base"), config.rope_theta);
  metadata.set_float(keys.name(epsilon_key(config)), config.norm_epsilon);
  metadata.set_uint32(keys.name("attention.key_length"), config.head_dim);
  metadata.set_uint32(keys.name("attention.value_length"), config.head_dim);
  metadata.set_uint32(keys.name("vocab_size"), config.vocabulary);
  if (config.has_rope()) {
    metadata.set_uint32(keys.name("rope.dimension_count"), config.turned_dims());
  }
  write_variants(architecture, config, keys, metadata);
}

}  // namespace fewbits
