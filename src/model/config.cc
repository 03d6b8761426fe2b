#include "model/config.h"

#include <fmt/format.h>

#include <cmath>

#include "base/error.h"

namespace fewbits {
namespace {

// Ten times what any published model has. They keep every product of two sizes far from overflow,
// and a forged header from asking for absurd buffers.
constexpr int64_t kMostHidden = int64_t{1} << 20;
constexpr int64_t kMostLayers = int64_t{1} << 12;
constexpr int64_t kMostTokenTypes = 1024;
constexpr int64_t kMostHeads = int64_t{1} << 14;
constexpr int64_t kMostHeadDim = int64_t{1} << 10;
constexpr int64_t kMostFfn = int64_t{1} << 22;
constexpr int64_t kMostVocabulary = int64_t{1} << 24;
constexpr int64_t kMostContext = int64_t{1} << 30;

void check_size(std::string_view name, int64_t value, int64_t most, std::string_view where) {
  if (value >= 1 && value <= most) return;
  throw Error(fmt::format("{}: {} is {}, must be 1 to {}", where, name, value, most));
}

void check_number(std::string_view name, double value, double most, std::string_view where) {
  if (std::isfinite(value) && value > 0 && value <= most) return;
  throw Error(
      fmt::format("{}: {} is {}, must be above 0 and at most {}", where, name, value, most));
}

void check_positions(const ModelConfig& config, std::string_view where) {
  if (config.sliding_window < 0) {
    throw Error(fmt::format("{}: sliding window is {}, must not be negative", where,
                            config.sliding_window));
  }
  if (config.head_dim % 2 != 0 && config.has_rope()) {
    throw Error(fmt::format("{}: head size {} is odd; rotary positions turn pairs", where,
                            config.head_dim));
  }
  const int64_t turned = config.rotary_dims;
  if (turned < 0 || turned > config.head_dim || turned % 2 != 0) {
    throw Error(fmt::format("{}: rotary positions turn {} of {} dimensions; must be an even part",
                            where, turned, config.head_dim));
  }
  if (config.rope_theta_local != 0) {
    check_number("local RoPE theta", config.rope_theta_local, 1e12, where);
  }
  if (config.full_period < 0 || config.full_period > kMostLayers) {
    throw Error(fmt::format("{}: sliding window pattern of {} layers", where, config.full_period));
  }
}

void check_scales(const ModelConfig& config, std::string_view where) {
  constexpr double kMostScale = 1e6;
  check_number("embedding scale", config.embedding_scale, kMostScale, where);
  check_number("residual scale", config.residual_scale, kMostScale, where);
  check_number("logit scale", config.logit_scale, kMostScale, where);
  for (const double optional : {config.attention_scale, config.attention_cap, config.logit_cap}) {
    if (optional != 0) check_number("attention scale or soft cap", optional, kMostScale, where);
  }
}

void check_experts(const ModelConfig& config, std::string_view where) {
  if (config.experts == 0) return;
  constexpr int64_t kMostExperts = 1024;
  check_size("number of experts", config.experts, kMostExperts, where);
  check_size("number of experts used", config.experts_used, config.experts, where);
  check_size("feed-forward size of an expert", config.expert_ffn, kMostFfn, where);
  check_number("scale of experts", config.expert_scale, 1e6, where);
  if (config.shared_ffn != 0) {
    check_size("feed-forward size beside the experts", config.shared_ffn, kMostFfn, where);
  }
  if (config.dense_layers < 0 || config.dense_layers > config.layers) {
    throw Error(fmt::format("{}: {} of {} layers without experts", where, config.dense_layers,
                            config.layers));
  }
}

/// Latent attention: values fit where keys do, and a part of each key is not turned.
void check_latent(const ModelConfig& config, std::string_view where) {
  check_size("size of values", config.value_size(), config.head_dim, where);
  if (config.latent == 0) return;
  check_size("latent size", config.latent, kMostHidden, where);
  if (config.kv_heads == config.heads && config.turned_dims() < config.head_dim) return;
  throw Error(
      fmt::format("{}: latent attention with {} key/value heads for {} and {} of {} "
                  "dimensions turned is not supported",
                  where, config.kv_heads, config.heads, config.turned_dims(), config.head_dim));
}

}  // namespace

std::string_view pooling_name(Pooling pooling) {
  constexpr std::string_view kNames[] = {"none", "mean", "cls", "last"};
  return kNames[static_cast<size_t>(pooling)];
}

void check_config(const ModelConfig& config, std::string_view where) {
  check_size("hidden size", config.hidden, kMostHidden, where);
  check_size("number of layers", config.layers, kMostLayers, where);
  check_size("number of attention heads", config.heads, kMostHeads, where);
  check_size("number of key/value heads", config.kv_heads, kMostHeads, where);
  check_size("head size", config.head_dim, kMostHeadDim, where);
  check_size("feed-forward size", config.ffn, kMostFfn, where);
  check_size("vocabulary size", config.vocabulary, kMostVocabulary, where);
  check_size("context length", config.context, kMostContext, where);
  const bool rms = config.design.norm == LayerDesign::Norm::kRms;
  check_number(rms ? "RMS norm epsilon" : "layer norm epsilon", config.norm_epsilon, 1, where);
  check_number("RoPE theta", config.rope_theta, 1e12, where);
  if (config.heads % config.kv_heads != 0) {
    throw Error(fmt::format("{}: {} attention heads do not share out {} key/value heads evenly",
                            where, config.heads, config.kv_heads));
  }
  check_positions(config, where);
  check_rope_scaling(config.rope_scaling, config.turned_dims(), where);
  check_scales(config, where);
  check_experts(config, where);
  check_latent(config, where);
  if (config.token_types != 0) {
    check_size("number of token types", config.token_types, kMostTokenTypes, where);
  }
}

}  // namespace fewbits
