#pragma once

#include <array>

#include "model/architecture.h"

// Names that several families share, and what puts a description's table together from them.
namespace fewbits::names {

/// One table of all parts, in order.
template <size_t... n>
constexpr auto all_of(const std::array<TensorName, n>&... parts) {
  std::array<TensorName, (n + ...)> all = {};
  size_t next = 0;
  const auto append = [&](const auto& part) {
    for (const TensorName& name : part) all[next++] = name;
  };
  (append(parts), ...);
  return all;
}

inline constexpr std::array<TensorName, 4> kStart = {{
    {Role::kEmbedding, "model.embed_tokens.weight", "token_embd.weight"},
    {Role::kRopeFactors, "", "rope_freqs.weight", true},
    {Role::kRopeFactorsLong, "", "rope_factors_long.weight", true},
    {Role::kRopeFactorsShort, "", "rope_factors_short.weight", true},
}};

inline constexpr std::array<TensorName, 1> kAttentionNorm = {{
    {Role::kAttentionNorm, "model.layers.{}.input_layernorm.weight", "blk.{}.attn_norm.weight"},
}};

inline constexpr std::array<TensorName, 4> kAttention = {{
    {Role::kQuery, "model.layers.{}.self_attn.q_proj.weight", "blk.{}.attn_q.weight"},
    {Role::kKey, "model.layers.{}.self_attn.k_proj.weight", "blk.{}.attn_k.weight"},
    {Role::kValue, "model.layers.{}.self_attn.v_proj.weight", "blk.{}.attn_v.weight"},
    {Role::kAttentionOutput, "model.layers.{}.self_attn.o_proj.weight",
     "blk.{}.attn_output.weight"},
}};

inline constexpr std::array<TensorName, 3> kQkvBiases = {{
    {Role::kQueryBias, "model.layers.{}.self_attn.q_proj.bias", "blk.{}.attn_q.bias", true},
    {Role::kKeyBias, "model.layers.{}.self_attn.k_proj.bias", "blk.{}.attn_k.bias", true},
    {Role::kValueBias, "model.layers.{}.self_attn.v_proj.bias", "blk.{}.attn_v.bias", true},
}};

inline constexpr std::array<TensorName, 2> kQueryKeyNorms = {{
    {Role::kQueryNorm, "model.layers.{}.self_attn.q_norm.weight", "blk.{}.attn_q_norm.weight"},
    {Role::kKeyNorm, "model.layers.{}.self_attn.k_norm.weight", "blk.{}.attn_k_norm.weight"},
}};

inline constexpr std::array<TensorName, 1> kMlpNorm = {{
    {Role::kMlpNorm, "model.layers.{}.post_attention_layernorm.weight", "blk.{}.ffn_norm.weight"},
}};

inline constexpr std::array<TensorName, 3> kGatedMlp = {{
    {Role::kGate, "model.layers.{}.mlp.gate_proj.weight", "blk.{}.ffn_gate.weight"},
    {Role::kUp, "model.layers.{}.mlp.up_proj.weight", "blk.{}.ffn_up.weight"},
    {Role::kDown, "model.layers.{}.mlp.down_proj.weight", "blk.{}.ffn_down.weight"},
}};

inline constexpr std::array<TensorName, 4> kExperts = {{
    {Role::kRouter, "model.layers.{}.mlp.gate.weight", "blk.{}.ffn_gate_inp.weight"},
    {Role::kExpertGate, "model.layers.{}.mlp.experts.{}.gate_proj.weight",
     "blk.{}.ffn_gate_exps.weight"},
    {Role::kExpertUp, "model.layers.{}.mlp.experts.{}.up_proj.weight", "blk.{}.ffn_up_exps.weight"},
    {Role::kExpertDown, "model.layers.{}.mlp.experts.{}.down_proj.weight",
     "blk.{}.ffn_down_exps.weight"},
}};

inline constexpr std::array<TensorName, 2> kEnd = {{
    {Role::kOutputNorm, "model.norm.weight", "output_norm.weight"},
    {Role::kOutput, "lm_head.weight", "output.weight", true},
}};

}  // namespace fewbits::names
