#include "model/architectures/all.h"
#include "model/architectures/names.h"

// Phi-3 and Phi-4: llama with query, key and value in one matrix, and gate and up in another.
namespace fewbits::phi3 {

constexpr std::array<std::string_view, 1> kModelTypes = {"phi3"};

constexpr std::array<TensorName, 2> kAttention = {{
    {Role::kQueryKeyValue, "model.layers.{}.self_attn.qkv_proj.weight", "blk.{}.attn_qkv.weight"},
    {Role::kAttentionOutput, "model.layers.{}.self_attn.o_proj.weight",
     "blk.{}.attn_output.weight"},
}};

constexpr std::array<TensorName, 2> kMlp = {{
    {Role::kGateUp, "model.layers.{}.mlp.gate_up_proj.weight", "blk.{}.ffn_up.weight"},
    {Role::kDown, "model.layers.{}.mlp.down_proj.weight", "blk.{}.ffn_down.weight"},
}};

constexpr auto kTensors = names::all_of(names::kStart, names::kAttentionNorm, kAttention,
                                        names::kMlpNorm, kMlp, names::kEnd);

constexpr std::array<DemandedValue, 3> kDemanded = {{
    {"hidden_act", "\"silu\""},
    {"attention_bias", "false"},
    {"lm_head_bias", "false"},
}};

constinit const Architecture architecture = {
    .name = "phi3",
    .model_types = kModelTypes,
    .gguf_name = "phi3",
    .tensors = kTensors,
    .demanded = kDemanded,
};

}  // namespace fewbits::phi3
