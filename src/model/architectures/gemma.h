#pragma once

#include <array>
#include <cmath>

#include "model/architectures/names.h"

// What Gemma 2 and 3 share: norms before and after both parts of a layer, embeddings scaled by the
// square root of their width, a GELU gate, and layers that take turns between a window and
// everything. (Gemma Team, arXiv 2408.00118 and 2503.19786)
namespace fewbits::gemma_family {

inline constexpr std::array<TensorName, 1> kAttentionPostNorm = {{
    {Role::kAttentionPostNorm, "model.layers.{}.post_attention_layernorm.weight",
     "blk.{}.post_attention_norm.weight"},
}};

inline constexpr std::array<TensorName, 1> kMlpNorm = {{
    {Role::kMlpNorm, "model.layers.{}.pre_feedforward_layernorm.weight", "blk.{}.ffn_norm.weight"},
}};

inline constexpr std::array<TensorName, 1> kMlpPostNorm = {{
    {Role::kMlpPostNorm, "model.layers.{}.post_feedforward_layernorm.weight",
     "blk.{}.post_ffw_norm.weight"},
}};

/// Beyond what stock files say: a scale that the sizes do not give away.
inline constexpr NumberKey kAttentionScale = {"", "attention.scale", &ModelConfig::attention_scale};

/// `layers_27b`: the number of layers by which the 27B model is known, whose scores are scaled by
/// hidden size over heads instead of by the head size: stock GGUF files say it no other way.
inline void complete(ModelConfig& config, const Json* json, int64_t layers_27b,
                     std::string_view where) {
  config.embedding_scale = std::sqrt(static_cast<double>(config.hidden));
  if (json == nullptr && config.attention_scale != 0) return;
  double width = static_cast<double>(config.head_dim);
  if (config.layers == layers_27b && config.heads > 0) {
    width = static_cast<double>(config.hidden / config.heads);
  }
  if (json != nullptr) width = json_number_or(*json, "query_pre_attn_scalar", width, where);
  config.attention_scale = 1 / std::sqrt(width);
}

}  // namespace fewbits::gemma_family
