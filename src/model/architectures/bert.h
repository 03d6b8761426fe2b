#pragma once

#include <array>

#include "model/architecture.h"

// The encoders that are built like BERT: learned positions and token types, a norm on the
// embedding, full attention, norms on the sums, a plain feed-forward part, biases everywhere.
// Nothing stands behind the last layer: vectors are pooled from its output.
namespace fewbits::bert {

inline constexpr std::array<TensorName, 21> kTensors = {{
    {Role::kEmbedding, "embeddings.word_embeddings.weight", "token_embd.weight"},
    {Role::kPositions, "embeddings.position_embeddings.weight", "position_embd.weight"},
    {Role::kTokenTypes, "embeddings.token_type_embeddings.weight", "token_types.weight", true},
    {Role::kEmbeddingNorm, "embeddings.LayerNorm.weight", "token_embd_norm.weight"},
    {Role::kEmbeddingNormBias, "embeddings.LayerNorm.bias", "token_embd_norm.bias"},
    {Role::kQuery, "encoder.layer.{}.attention.self.query.weight", "blk.{}.attn_q.weight"},
    {Role::kQueryBias, "encoder.layer.{}.attention.self.query.bias", "blk.{}.attn_q.bias"},
    {Role::kKey, "encoder.layer.{}.attention.self.key.weight", "blk.{}.attn_k.weight"},
    {Role::kKeyBias, "encoder.layer.{}.attention.self.key.bias", "blk.{}.attn_k.bias"},
    {Role::kValue, "encoder.layer.{}.attention.self.value.weight", "blk.{}.attn_v.weight"},
    {Role::kValueBias, "encoder.layer.{}.attention.self.value.bias", "blk.{}.attn_v.bias"},
    {Role::kAttentionOutput, "encoder.layer.{}.attention.output.dense.weight",
     "blk.{}.attn_output.weight"},
    {Role::kAttentionOutputBias, "encoder.layer.{}.attention.output.dense.bias",
     "blk.{}.attn_output.bias"},
    {Role::kAttentionPostNorm, "encoder.layer.{}.attention.output.LayerNorm.weight",
     "blk.{}.attn_output_norm.weight"},
    {Role::kAttentionPostNormBias, "encoder.layer.{}.attention.output.LayerNorm.bias",
     "blk.{}.attn_output_norm.bias"},
    {Role::kUp, "encoder.layer.{}.intermediate.dense.weight", "blk.{}.ffn_up.weight"},
    {Role::kUpBias, "encoder.layer.{}.intermediate.dense.bias", "blk.{}.ffn_up.bias"},
    {Role::kDown, "encoder.layer.{}.output.dense.weight", "blk.{}.ffn_down.weight"},
    {Role::kDownBias, "encoder.layer.{}.output.dense.bias", "blk.{}.ffn_down.bias"},
    {Role::kMlpPostNorm, "encoder.layer.{}.output.LayerNorm.weight",
     "blk.{}.layer_output_norm.weight"},
    {Role::kMlpPostNormBias, "encoder.layer.{}.output.LayerNorm.bias",
     "blk.{}.layer_output_norm.bias"},
}};

// The heads of other tasks, and the numbers 0, 1, 2, ..
inline constexpr std::array<std::string_view, 5> kIgnored = {
    "*pooler.dense.*", "*embeddings.position_ids", "cls.*", "lm_head.*", "classifier.*"};

inline constexpr std::array<DemandedValue, 3> kDemanded = {{
    {"hidden_act", "\"gelu\""},
    {"position_embedding_type", "\"absolute\""},
    {"is_decoder", "false"},
}};

inline constexpr LayerDesign kDesign = {.norm = LayerDesign::Norm::kLayer,
                                        .activation = LayerDesign::Activation::kGelu,
                                        .positions = LayerDesign::Positions::kLearned,
                                        .norms_sum = true,
                                        .causal = false};

}  // namespace fewbits::bert
