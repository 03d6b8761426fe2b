#pragma once

#include <array>

#include "model/architectures/names.h"

// What the Llama family shares: the same tensors under the same names, and the same things it does
// not do. Mixtral is of it too: in GGUF it is a llama with experts.
namespace fewbits::llama_family {

inline constexpr std::array<TensorName, 4> kExperts = {{
    {Role::kRouter, "model.layers.{}.block_sparse_moe.gate.weight", "blk.{}.ffn_gate_inp.weight"},
    {Role::kExpertGate, "model.layers.{}.block_sparse_moe.experts.{}.w1.weight",
     "blk.{}.ffn_gate_exps.weight"},
    {Role::kExpertUp, "model.layers.{}.block_sparse_moe.experts.{}.w3.weight",
     "blk.{}.ffn_up_exps.weight"},
    {Role::kExpertDown, "model.layers.{}.block_sparse_moe.experts.{}.w2.weight",
     "blk.{}.ffn_down_exps.weight"},
}};

inline constexpr auto kTensors =
    names::all_of(names::kStart, names::kAttentionNorm, names::kAttention, names::kMlpNorm,
                  names::kGatedMlp, kExperts, names::kEnd);

// Old checkpoints carry the rotary frequencies, which follow from the config.
inline constexpr std::array<std::string_view, 1> kIgnored = {"model.layers.*.rotary_emb.inv_freq"};

inline constexpr std::array<DemandedValue, 3> kDemanded = {{
    {"hidden_act", "\"silu\""},
    {"attention_bias", "false"},
    {"mlp_bias", "false"},
}};

/// The same description under several names; in GGUF all of them are "llama".
constexpr Architecture described_as(const std::array<std::string_view, 1>& model_types) {
  return {
      .name = model_types.front(),
      .model_types = model_types,
      .gguf_name = "llama",
      .tensors = kTensors,
      .ignored = kIgnored,
      .demanded = kDemanded,
      .gguf_interleaves_rope = true,
  };
}

}  // namespace fewbits::llama_family
