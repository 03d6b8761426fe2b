#include "model/architectures/all.h"
#include "model/architectures/names.h"

// GPT-2: layer norms, biases everywhere, a plain feed-forward part, learned positions, and matrices
// that Hugging Face keeps as {columns, rows}.
namespace fewbits::gpt2 {

constexpr std::array<std::string_view, 1> kModelTypes = {"gpt2"};

constexpr std::array<TensorName, 17> kTensors = {{
    {Role::kEmbedding, "wte.weight", "token_embd.weight"},
    {Role::kPositions, "wpe.weight", "position_embd.weight"},
    {Role::kAttentionNorm, "h.{}.ln_1.weight", "blk.{}.attn_norm.weight"},
    {Role::kAttentionNormBias, "h.{}.ln_1.bias", "blk.{}.attn_norm.bias"},
    {Role::kQueryKeyValue, "h.{}.attn.c_attn.weight", "blk.{}.attn_qkv.weight"},
    {Role::kQueryKeyValueBias, "h.{}.attn.c_attn.bias", "blk.{}.attn_qkv.bias"},
    {Role::kAttentionOutput, "h.{}.attn.c_proj.weight", "blk.{}.attn_output.weight"},
    {Role::kAttentionOutputBias, "h.{}.attn.c_proj.bias", "blk.{}.attn_output.bias"},
    {Role::kMlpNorm, "h.{}.ln_2.weight", "blk.{}.ffn_norm.weight"},
    {Role::kMlpNormBias, "h.{}.ln_2.bias", "blk.{}.ffn_norm.bias"},
    {Role::kUp, "h.{}.mlp.c_fc.weight", "blk.{}.ffn_up.weight"},
    {Role::kUpBias, "h.{}.mlp.c_fc.bias", "blk.{}.ffn_up.bias"},
    {Role::kDown, "h.{}.mlp.c_proj.weight", "blk.{}.ffn_down.weight"},
    {Role::kDownBias, "h.{}.mlp.c_proj.bias", "blk.{}.ffn_down.bias"},
    {Role::kOutputNorm, "ln_f.weight", "output_norm.weight"},
    {Role::kOutputNormBias, "ln_f.bias", "output_norm.bias"},
    {Role::kOutput, "lm_head.weight", "output.weight", true},
}};

// The causal mask, which old checkpoints carry.
constexpr std::array<std::string_view, 2> kIgnored = {"*h.*.attn.bias", "*h.*.attn.masked_bias"};

constexpr std::array<DemandedValue, 4> kDemanded = {{
    {"activation_function", "\"gelu_new\""},
    {"scale_attn_weights", "true"},
    {"scale_attn_by_inverse_layer_idx", "false"},
    {"add_cross_attention", "false"},
}};

constinit const Architecture architecture = {
    .name = "gpt2",
    .model_types = kModelTypes,
    .gguf_name = "gpt2",
    .tensors = kTensors,
    .ignored = kIgnored,
    .demanded = kDemanded,
    .design = {.norm = LayerDesign::Norm::kLayer,
               .activation = LayerDesign::Activation::kGeluTanh,
               .positions = LayerDesign::Positions::kLearned},
    .prefix = "transformer.",
    .tied_by_default = true,
    .transposed = true,
    .ffn_multiple = 4,
};

}  // namespace fewbits::gpt2
