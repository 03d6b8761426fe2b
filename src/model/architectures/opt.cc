#include <fmt/format.h>

#include "base/error.h"
#include "model/architectures/all.h"
#include "model/architectures/names.h"

// OPT: a plain feed-forward part with ReLU, biases everywhere, and learned positions whose table
// begins with two rows that nobody uses. Stock llama.cpp does not know it; the names in GGUF follow
// its custom. (Zhang et al., arXiv 2205.01068)
namespace fewbits::opt {

constexpr std::array<std::string_view, 1> kModelTypes = {"opt"};
constexpr int64_t kUnusedPositions = 2;

constexpr std::array<TensorName, 21> kTensors = {{
    {Role::kEmbedding, "decoder.embed_tokens.weight", "token_embd.weight"},
    {Role::kPositions, "decoder.embed_positions.weight", "position_embd.weight"},
    {Role::kAttentionNorm, "decoder.layers.{}.self_attn_layer_norm.weight",
     "blk.{}.attn_norm.weight"},
    {Role::kAttentionNormBias, "decoder.layers.{}.self_attn_layer_norm.bias",
     "blk.{}.attn_norm.bias"},
    {Role::kQuery, "decoder.layers.{}.self_attn.q_proj.weight", "blk.{}.attn_q.weight"},
    {Role::kQueryBias, "decoder.layers.{}.self_attn.q_proj.bias", "blk.{}.attn_q.bias"},
    {Role::kKey, "decoder.layers.{}.self_attn.k_proj.weight", "blk.{}.attn_k.weight"},
    {Role::kKeyBias, "decoder.layers.{}.self_attn.k_proj.bias", "blk.{}.attn_k.bias"},
    {Role::kValue, "decoder.layers.{}.self_attn.v_proj.weight", "blk.{}.attn_v.weight"},
    {Role::kValueBias, "decoder.layers.{}.self_attn.v_proj.bias", "blk.{}.attn_v.bias"},
    {Role::kAttentionOutput, "decoder.layers.{}.self_attn.out_proj.weight",
     "blk.{}.attn_output.weight"},
    {Role::kAttentionOutputBias, "decoder.layers.{}.self_attn.out_proj.bias",
     "blk.{}.attn_output.bias"},
    {Role::kMlpNorm, "decoder.layers.{}.final_layer_norm.weight", "blk.{}.ffn_norm.weight"},
    {Role::kMlpNormBias, "decoder.layers.{}.final_layer_norm.bias", "blk.{}.ffn_norm.bias"},
    {Role::kUp, "decoder.layers.{}.fc1.weight", "blk.{}.ffn_up.weight"},
    {Role::kUpBias, "decoder.layers.{}.fc1.bias", "blk.{}.ffn_up.bias"},
    {Role::kDown, "decoder.layers.{}.fc2.weight", "blk.{}.ffn_down.weight"},
    {Role::kDownBias, "decoder.layers.{}.fc2.bias", "blk.{}.ffn_down.bias"},
    {Role::kOutputNorm, "decoder.final_layer_norm.weight", "output_norm.weight"},
    {Role::kOutputNormBias, "decoder.final_layer_norm.bias", "output_norm.bias"},
    {Role::kOutput, "lm_head.weight", "output.weight", true},
}};

constexpr std::array<DemandedValue, 5> kDemanded = {{
    {"activation_function", "\"relu\""},
    {"do_layer_norm_before", "true"},  // all but OPT 350M
    {"_remove_final_layer_norm", "false"},
    {"enable_bias", "true"},
    {"layer_norm_elementwise_affine", "true"},
}};

void complete(ModelConfig& config, const Json* json, std::string_view where) {
  constexpr double kEpsilon = 1e-5;  // nn.LayerNorm's own; config.json has no key for it
  config.position_offset = kUnusedPositions;
  if (json == nullptr) return;
  config.norm_epsilon = kEpsilon;
  const int64_t width = json_integer_or(*json, "word_embed_proj_dim", config.hidden, where);
  if (width == config.hidden) return;
  throw Error(fmt::format("{}: 'word_embed_proj_dim' is {}, only the hidden size {} is supported",
                          where, width, config.hidden));
}

constinit const Architecture architecture = {
    .name = "opt",
    .model_types = kModelTypes,
    .gguf_name = "opt",
    .tensors = kTensors,
    .demanded = kDemanded,
    .design = {.norm = LayerDesign::Norm::kLayer,
               .activation = LayerDesign::Activation::kRelu,
               .positions = LayerDesign::Positions::kLearned},
    .prefix = "model.",
    .tied_by_default = true,
    .complete = complete,
};

}  // namespace fewbits::opt
