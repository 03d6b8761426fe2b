#include "model/architectures/all.h"
#include "model/architectures/names.h"

// Falcon 7B, 11B and 40B: attention and a plain feed-forward part side by side behind one layer
// norm (40B: each behind its own), and one matrix for query, key and value. (Almazrouei et al.,
// arXiv 2311.16867)
namespace fewbits::falcon {

constexpr std::array<std::string_view, 1> kModelTypes = {"falcon"};

constexpr std::array<TensorName, 14> kTensors = {{
    {Role::kEmbedding, "transformer.word_embeddings.weight", "token_embd.weight"},
    // Two norms, or else one; GGUF calls the only one as it calls the second of two.
    {Role::kAttentionNorm, "transformer.h.{}.ln_attn.weight", "blk.{}.attn_norm_2.weight", true},
    {Role::kAttentionNormBias, "transformer.h.{}.ln_attn.bias", "blk.{}.attn_norm_2.bias", true},
    {Role::kAttentionNorm, "transformer.h.{}.input_layernorm.weight", "blk.{}.attn_norm.weight"},
    {Role::kAttentionNormBias, "transformer.h.{}.input_layernorm.bias", "blk.{}.attn_norm.bias"},
    {Role::kMlpNorm, "transformer.h.{}.ln_mlp.weight", "blk.{}.attn_norm.weight", true},
    {Role::kMlpNormBias, "transformer.h.{}.ln_mlp.bias", "blk.{}.attn_norm.bias", true},
    {Role::kQueryKeyValue, "transformer.h.{}.self_attention.query_key_value.weight",
     "blk.{}.attn_qkv.weight"},
    {Role::kAttentionOutput, "transformer.h.{}.self_attention.dense.weight",
     "blk.{}.attn_output.weight"},
    {Role::kUp, "transformer.h.{}.mlp.dense_h_to_4h.weight", "blk.{}.ffn_up.weight"},
    {Role::kDown, "transformer.h.{}.mlp.dense_4h_to_h.weight", "blk.{}.ffn_down.weight"},
    {Role::kOutputNorm, "transformer.ln_f.weight", "output_norm.weight"},
    {Role::kOutputNormBias, "transformer.ln_f.bias", "output_norm.bias"},
    {Role::kOutput, "lm_head.weight", "output.weight", true},
}};

constexpr std::array<DemandedValue, 4> kDemanded = {{
    {"alibi", "false"},
    {"bias", "false"},
    {"parallel_attn", "true"},
    {"activation", "\"gelu\""},
}};

/// One key/value head where `multi_query` says so and the new form of the layer does not.
void complete(ModelConfig& config, const Json* json, std::string_view where) {
  if (json == nullptr || json_bool_or(*json, "new_decoder_architecture", false, where)) return;
  config.kv_heads = json_bool_or(*json, "multi_query", true, where) ? 1 : config.heads;
}

constinit const Architecture architecture = {
    .name = "falcon",
    .model_types = kModelTypes,
    .gguf_name = "falcon",
    .tensors = kTensors,
    .demanded = kDemanded,
    .design = {.norm = LayerDesign::Norm::kLayer,
               .activation = LayerDesign::Activation::kGelu,
               .parallel = true},
    .tied_by_default = true,
    .grouped_qkv = true,
    .ffn_multiple = 4,
    .complete = complete,
};

}  // namespace fewbits::falcon
