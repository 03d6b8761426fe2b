#include "model/architectures/all.h"
#include "model/architectures/names.h"

// ModernBERT: an encoder built like a decoder, with rotary positions, norms before the parts of a
// layer and a gate, without biases. Of three layers the first sees everything, the others a window
// to both sides, with another rotary base. (Warner et al., arXiv 2412.13663)
namespace fewbits::modernbert {

constexpr std::array<std::string_view, 1> kModelTypes = {"modernbert"};
constexpr double kGlobalTheta = 160000, kLocalTheta = 10000;

constexpr std::array<TensorName, 9> kTensors = {{
    {Role::kEmbedding, "embeddings.tok_embeddings.weight", "token_embd.weight"},
    {Role::kEmbeddingNorm, "embeddings.norm.weight", "token_embd_norm.weight"},
    {Role::kAttentionNorm, "layers.{}.attn_norm.weight", "blk.{}.attn_norm.weight",
     true},  // the first layer has none: the embedding is normed
    {Role::kQueryKeyValue, "layers.{}.attn.Wqkv.weight", "blk.{}.attn_qkv.weight"},
    {Role::kAttentionOutput, "layers.{}.attn.Wo.weight", "blk.{}.attn_output.weight"},
    {Role::kMlpNorm, "layers.{}.mlp_norm.weight", "blk.{}.ffn_norm.weight"},
    {Role::kGateUp, "layers.{}.mlp.Wi.weight", "blk.{}.ffn_up.weight"},
    {Role::kDown, "layers.{}.mlp.Wo.weight", "blk.{}.ffn_down.weight"},
    {Role::kOutputNorm, "final_norm.weight", "output_norm.weight"},
}};

// The heads of other tasks.
constexpr std::array<std::string_view, 3> kIgnored = {"head.*", "decoder.*", "classifier.*"};

constexpr std::array<DemandedValue, 4> kDemanded = {{
    {"hidden_activation", "\"gelu\""},
    {"attention_bias", "false"},
    {"mlp_bias", "false"},
    {"norm_bias", "false"},
}};

void complete(ModelConfig& config, const Json* json, std::string_view where) {
  config.tied_embeddings = true;  // nothing maps states back to tokens
  if (json == nullptr) return;
  // Older configs give each base a key of its own, and the period a number.
  if (json->find("global_rope_theta") != json->end()) {
    config.rope_theta = json_number_or(*json, "global_rope_theta", kGlobalTheta, where);
  }
  if (config.rope_theta_local == 0) {
    config.rope_theta_local = json_number_or(*json, "local_rope_theta", kLocalTheta, where);
  }
  config.sliding_window = json_integer_or(*json, "local_attention", 0, where);
  if (json->find("layer_types") == json->end()) {
    config.full_period = json_integer_or(*json, "global_attn_every_n_layers", 3, where);
  }
}

constinit const Architecture architecture = {
    .name = "modernbert",
    .model_types = kModelTypes,
    .gguf_name = "modern-bert",
    .tensors = kTensors,
    .ignored = kIgnored,
    .demanded = kDemanded,
    .design = {.norm = LayerDesign::Norm::kLayer,
               .activation = LayerDesign::Activation::kGelu,
               .causal = false,
               .full_first = true},
    .prefix = "model.",
    .full_period = 3,
    .complete = complete,
};

}  // namespace fewbits::modernbert
