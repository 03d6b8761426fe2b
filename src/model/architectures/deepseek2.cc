#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "model/architectures/all.h"
#include "model/architectures/names.h"

// DeepSeek-V2-Lite: keys and values are made of short latent rows, experts beside a part that all
// tokens go to, and first layers without experts. (DeepSeek-AI, arXiv 2405.04434)
namespace fewbits::deepseek2 {

constexpr std::array<std::string_view, 1> kModelTypes = {"deepseek_v2"};

constexpr std::array<TensorName, 7> kAttention = {{
    {Role::kQuery, "model.layers.{}.self_attn.q_proj.weight", "blk.{}.attn_q.weight"},
    {Role::kLatent, "model.layers.{}.self_attn.kv_a_proj_with_mqa.weight",
     "blk.{}.attn_kv_a_mqa.weight"},
    {Role::kLatentNorm, "model.layers.{}.self_attn.kv_a_layernorm.weight",
     "blk.{}.attn_kv_a_norm.weight"},
    {Role::kKeyValue, "model.layers.{}.self_attn.kv_b_proj.weight", "blk.{}.attn_kv_b.weight",
     true},
    {Role::kKeyFromLatent, "", "blk.{}.attn_k_b.weight", true},
    {Role::kValueFromLatent, "", "blk.{}.attn_v_b.weight", true},
    {Role::kAttentionOutput, "model.layers.{}.self_attn.o_proj.weight",
     "blk.{}.attn_output.weight"},
}};

constexpr std::array<TensorName, 3> kShared = {{
    {Role::kSharedGate, "model.layers.{}.mlp.shared_experts.gate_proj.weight",
     "blk.{}.ffn_gate_shexp.weight"},
    {Role::kSharedUp, "model.layers.{}.mlp.shared_experts.up_proj.weight",
     "blk.{}.ffn_up_shexp.weight"},
    {Role::kSharedDown, "model.layers.{}.mlp.shared_experts.down_proj.weight",
     "blk.{}.ffn_down_shexp.weight"},
}};

constexpr auto kTensors =
    names::all_of(names::kStart, names::kAttentionNorm, kAttention, names::kMlpNorm,
                  names::kGatedMlp, names::kExperts, kShared, names::kEnd);

constexpr std::array<DemandedValue, 8> kDemanded = {{
    {"hidden_act", "\"silu\""},
    {"attention_bias", "false"},
    {"mlp_bias", "false"},
    {"q_lora_rank", "null"},  // the larger models make queries of latent rows too
    {"topk_method", "\"greedy\""},
    {"scoring_func", "\"softmax\""},
    {"norm_topk_prob", "false"},
    {"moe_layer_freq", "1"},
}};

void complete(ModelConfig& config, const Json* json, std::string_view where) {
  if (json != nullptr) {
    config.latent = json_integer(*json, "kv_lora_rank", where);
    config.rotary_dims = json_integer(*json, "qk_rope_head_dim", where);
    config.value_dim = json_integer(*json, "v_head_dim", where);
    constexpr int64_t kFar = int64_t{1} << 40;
    config.head_dim = std::clamp(config.rotary_dims, -kFar, kFar) +
                      std::clamp(json_integer(*json, "qk_nope_head_dim", where), -kFar, kFar);
    config.kv_heads = config.heads;
  }
  if (config.latent < 1) {
    throw Error(fmt::format("{}: latent size is {}, must be at least 1", where, config.latent));
  }
  if (config.head_dim < 1) return;  // check_config says what is wrong
  const RopeScaling& scaling = config.rope_scaling;
  const double growth =
      scaling.score_growth != 0 ? yarn_growth(scaling.factor, scaling.score_growth) : 1;
  config.attention_scale = growth * growth / std::sqrt(static_cast<double>(config.head_dim));
}

constinit const Architecture architecture = {
    .name = "deepseek2",
    .model_types = kModelTypes,
    .gguf_name = "deepseek2",
    .tensors = kTensors,
    .demanded = kDemanded,
    .design = {.expert_weights_normed = false},
    .complete = complete,
};

}  // namespace fewbits::deepseek2
