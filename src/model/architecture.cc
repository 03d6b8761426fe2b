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

// What transformers' LlamaConfig takes where a key is missing.
constexpr int64_t kDefaultContext = 2048;
constexpr double kDefaultEpsilon = 1e-6;
constexpr double kDefaultTheta = 10000;
constexpr int64_t kDefaultOriginalContext = 8192;

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

/// Since transformers 5 theta and scaling stand together in rope_parameters; before, theta stood
/// alone.
void read_rope(const Json& json, ModelConfig& config, std::string_view where) {
  config.rope_theta = json_number_or(json, "rope_theta", kDefaultTheta, where);
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const auto rope = json.find(key);
    if (rope == json.end() || rope->is_null()) continue;
    if (!rope->is_object()) throw Error(fmt::format("{}: '{}' must be an object", where, key));
    config.rope_theta = json_number_or(*rope, "rope_theta", config.rope_theta, where);
    config.rope_scaling = read_rope_scaling(*rope, where);
  }
}

int64_t derived_head_dim(const ModelConfig& config, std::string_view where) {
  if (config.heads < 1) return 0;  // check_config says what is wrong
  if (config.hidden % config.heads == 0) return config.hidden / config.heads;
  throw Error(fmt::format(
      "{}: hidden size {} is no multiple of {} attention heads, and no head size is given", where,
      config.hidden, config.heads));
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

int64_t vocabulary_size(const GgufKeys& keys, const Metadata& metadata) {
  const auto* tokens = metadata.strings("tokenizer.ggml.tokens");
  return keys.integer_or("vocab_size",
                         tokens == nullptr ? 0 : static_cast<int64_t>(tokens->size()));
}

}  // namespace

Shape expected_shape(Role role, const ModelConfig& config) {
  const int64_t query_rows = config.heads * config.head_dim;
  const int64_t kv_rows = config.kv_heads * config.head_dim;
  switch (role) {
    case Role::kEmbedding:
    case Role::kOutput:
      return {config.vocabulary, config.hidden};
    case Role::kRopeFactors:
      return {config.head_dim / 2};
    case Role::kOutputNorm:
    case Role::kAttentionNorm:
    case Role::kMlpNorm:
      return {config.hidden};
    case Role::kQuery:
      return {query_rows, config.hidden};
    case Role::kKey:
    case Role::kValue:
      return {kv_rows, config.hidden};
    case Role::kAttentionOutput:
      return {config.hidden, query_rows};
    case Role::kGate:
    case Role::kUp:
      return {config.ffn, config.hidden};
    case Role::kDown:
      return {config.hidden, config.ffn};
  }
  check(false);
  return {};
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

ModelConfig read_config(const Architecture& architecture, const Json& json,
                        std::string_view where) {
  refuse_unsupported(architecture, json, where);
  ModelConfig config;
  config.hidden = json_integer(json, "hidden_size", where);
  config.layers = json_integer(json, "num_hidden_layers", where);
  config.heads = json_integer(json, "num_attention_heads", where);
  config.kv_heads = json_integer_or(json, "num_key_value_heads", config.heads, where);
  config.ffn = json_integer(json, "intermediate_size", where);
  config.vocabulary = json_integer(json, "vocab_size", where);
  config.context = json_integer_or(json, "max_position_embeddings", kDefaultContext, where);
  config.sliding_window = json_integer_or(json, "sliding_window", 0, where);
  config.norm_epsilon = json_number_or(json, "rms_norm_eps", kDefaultEpsilon, where);
  config.tied_embeddings = json_bool_or(json, "tie_word_embeddings", false, where);
  const int64_t head_dim = json_integer_or(json, "head_dim", 0, where);
  config.head_dim = head_dim != 0 ? head_dim : derived_head_dim(config, where);
  read_rope(json, config, where);
  check_config(config, where);
  return config;
}

ModelConfig read_config(const Architecture& architecture, const Metadata& metadata,
                        std::string_view where) {
  const GgufKeys keys(metadata, architecture.gguf_name, where);
  ModelConfig config;
  config.hidden = keys.integer("embedding_length");
  config.layers = keys.integer("block_count");
  config.heads = keys.integer("attention.head_count");
  config.kv_heads = keys.integer_or("attention.head_count_kv", config.heads);
  config.ffn = keys.integer("feed_forward_length");
  config.vocabulary = vocabulary_size(keys, metadata);
  config.context = keys.integer("context_length");
  config.sliding_window = keys.integer_or("attention.sliding_window", 0);
  config.norm_epsilon = keys.number("attention.layer_norm_rms_epsilon");
  config.rope_theta = keys.number_or("rope.freq_base", kDefaultTheta);
  config.rope_scaling = read_rope_scaling(keys, where);
  const int64_t head_dim = keys.integer_or("attention.key_length", 0);
  config.head_dim = head_dim != 0 ? head_dim : derived_head_dim(config, where);
  check_config(config, where);
  keys.demand("attention.value_length", config.head_dim);
  keys.demand("rope.dimension_count", config.head_dim);
  keys.demand("expert_count", 0);
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
  metadata.set_float(keys.name("rope.freq_base"), config.rope_theta);
  metadata.set_float(keys.name("attention.layer_norm_rms_epsilon"), config.norm_epsilon);
  metadata.set_uint32(keys.name("attention.key_length"), config.head_dim);
  metadata.set_uint32(keys.name("attention.value_length"), config.head_dim);
  metadata.set_uint32(keys.name("vocab_size"), config.vocabulary);
  metadata.set_uint32(keys.name("rope.dimension_count"), config.head_dim);
}

}  // namespace fewbits
