#include <fmt/format.h>

#include <string>
#include <vector>

#include "base/error.h"
#include "model/config_parts.h"

// The ARCH.* keys of a GGUF, read and written.
namespace fewbits {
namespace {

constexpr std::string_view kTokenTypeCount = "tokenizer.ggml.token_type_count";

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
  std::vector<bool> full;
  for (const int64_t sliding : *slides) full.push_back(sliding == 0);
  config.full_period = full_period_of(full, config.design.full_first, where);
}

void read_window(const Architecture& architecture, const GgufKeys& keys, const Metadata& metadata,
                 ModelConfig& config, std::string_view where) {
  config.sliding_window = keys.integer_or("attention.sliding_window", 0);
  config.full_period = architecture.full_period;
  read_window_pattern(keys, metadata, config, where);
  if (config.full_period == 1) config.sliding_window = 0;
  config.rope_theta_local = keys.number_or("rope.freq_base_swa", 0);
}

/// Files of latent attention state the sizes of the latent rows, and those of the heads that are
/// made of them under names of their own; older ones only the latter, under the usual names.
void read_head_sizes(const GgufKeys& keys, ModelConfig& config, std::string_view where) {
  config.latent = keys.integer_or("attention.kv_lora_rank", 0);
  const int64_t of_latent = keys.integer_or("attention.key_length_mla", 0);
  const int64_t usual = keys.integer_or("attention.key_length", 0);
  config.head_dim = of_latent != 0 ? of_latent
                    : usual != 0   ? usual
                                   : derived_head_dim(config, where);
  config.value_dim = keys.integer_or(
      of_latent != 0 ? "attention.value_length_mla" : "attention.value_length", config.head_dim);
  if (config.latent > 0) config.kv_heads = config.heads;
  if (config.latent == 0) keys.demand("attention.value_length", config.head_dim);
  if (config.value_dim == config.head_dim) config.value_dim = 0;
}

void read_shared_experts(const Architecture& architecture, const GgufKeys& keys,
                         ModelConfig& config, std::string_view where) {
  config.expert_scale = keys.number_or("expert_weights_scale", 1);
  keys.demand("expert_gating_func", 1);
  if (!has_role(architecture, Role::kSharedGate)) {
    keys.demand("leading_dense_block_count", 0);
    keys.demand("expert_shared_count", 0);
    return;
  }
  config.dense_layers = keys.integer_or("leading_dense_block_count", 0);
  config.shared_ffn = checked_product(keys.integer_or("expert_shared_count", 0), config.expert_ffn,
                                      "shared experts", where);
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
  if (config.expert_scale != 1) {
    metadata.set_float(keys.name("expert_weights_scale"), config.expert_scale);
  }
  if (config.dense_layers > 0 || config.shared_ffn > 0) {
    metadata.set_uint32(keys.name("leading_dense_block_count"), config.dense_layers);
    metadata.set_uint32(keys.name("expert_shared_count"), config.shared_ffn / config.expert_ffn);
  }
  if (config.expert_ffn != config.ffn) {
    metadata.set_uint32(keys.name("expert_feed_forward_length"), config.expert_ffn);
  }
}

}  // namespace

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
  read_head_sizes(keys, config, where);
  config.rotary_dims = keys.integer_or("rope.dimension_count", 0);
  if (architecture.gguf_interleaves_rope) keys.demand("rope.dimension_count", config.head_dim);
  if (config.rotary_dims == config.head_dim || !config.has_rope()) config.rotary_dims = 0;
  for (const NumberKey& key : architecture.numbers) {
    const auto value = key.gguf.empty() ? std::nullopt : keys.optional_number(key.gguf);
    if (value && *value != 0) config.*key.field = key.inverse ? 1 / *value : *value;
  }
  if (has_role(architecture, Role::kRouter)) {
    config.experts = keys.integer_or("expert_count", 0);
    config.experts_used = keys.integer_or("expert_used_count", 0);
    config.expert_ffn = keys.integer_or("expert_feed_forward_length", config.ffn);
    read_shared_experts(architecture, keys, config, where);
  } else {
    keys.demand("expert_count", 0);
  }
  config.token_types = metadata.integer(kTokenTypeCount).value_or(0);
  config.pooling = read_pooling(keys, where);
  if (architecture.complete != nullptr) architecture.complete(config, nullptr, where);
  check_config(config, where);
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
  write_rope_scaling(config.rope_scaling, keys, metadata);
  if (config.has_rope()) metadata.set_float(keys.name("rope.freq_base"), config.rope_theta);
  metadata.set_float(keys.name(epsilon_key(config)), config.norm_epsilon);
  metadata.set_uint32(keys.name("attention.key_length"), config.head_dim);
  metadata.set_uint32(keys.name("attention.value_length"), config.value_size());
  if (config.latent > 0) metadata.set_uint32(keys.name("attention.kv_lora_rank"), config.latent);
  metadata.set_uint32(keys.name("vocab_size"), config.vocabulary);
  if (config.has_rope()) {
    metadata.set_uint32(keys.name("rope.dimension_count"), config.turned_dims());
  }
  write_variants(architecture, config, keys, metadata);
}

}  // namespace fewbits
