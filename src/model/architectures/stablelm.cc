#include "model/architectures/all.h"
#include "model/architectures/names.h"

// StableLM 3B and StableLM 2: layer norms, rotary positions on a part of each head, and in the 12B
// model both parts of a layer side by side behind one norm, and norms for each head.
namespace fewbits::stablelm {

constexpr std::array<std::string_view, 1> kModelTypes = {"stablelm"};

constexpr std::array<TensorName, 1> kAttentionNormBias = {{
    {Role::kAttentionNormBias, "model.layers.{}.input_layernorm.bias", "blk.{}.attn_norm.bias"},
}};

constexpr std::array<TensorName, 4> kNorms = {{
    {Role::kQueryNorm, "model.layers.{}.self_attn.q_layernorm.norms.{}.weight",
     "blk.{}.attn_q_norm.weight", true},
    {Role::kKeyNorm, "model.layers.{}.self_attn.k_layernorm.norms.{}.weight",
     "blk.{}.attn_k_norm.weight", true},
    {Role::kMlpNorm, "model.layers.{}.post_attention_layernorm.weight", "blk.{}.ffn_norm.weight",
     true},
    {Role::kMlpNormBias, "model.layers.{}.post_attention_layernorm.bias", "blk.{}.ffn_norm.bias",
     true},
}};

constexpr std::array<TensorName, 3> kEnd = {{
    {Role::kOutputNorm, "model.norm.weight", "output_norm.weight"},
    {Role::kOutputNormBias, "model.norm.bias", "output_norm.bias"},
    {Role::kOutput, "lm_head.weight", "output.weight", true},
}};

constexpr auto kTensors =
    names::all_of(names::kStart, names::kAttentionNorm, kAttentionNormBias, names::kAttention,
                  names::kQkvBiases, kNorms, names::kGatedMlp, kEnd);

constexpr std::array<DemandedValue, 1> kDemanded = {{
    {"hidden_act", "\"silu\""},
}};

constinit const Architecture architecture = {
    .name = "stablelm",
    .model_types = kModelTypes,
    .gguf_name = "stablelm",
    .tensors = kTensors,
    .demanded = kDemanded,
    .design = {.norm = LayerDesign::Norm::kLayer,
               .query_key_norm = LayerDesign::QueryKeyNorm::kEachHead},
};

}  // namespace fewbits::stablelm
