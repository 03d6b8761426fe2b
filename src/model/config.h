#pragma once

#include <cstdint>
#include <string_view>

#include "model/rope_scaling.h"

// The numbers that shape a decoder, whatever file they came from.
namespace fewbits {

/// How a layer is put together. Which norms, biases and gates it has, its tensors say.
struct LayerDesign {
  enum class Norm { kRms, kLayer };
  enum class Activation { kSilu, kGelu, kGeluTanh, kRelu };
  enum class Positions {
    kRope,
    kLearned,  ///< a row of a table is added to each token's embedding
  };
  enum class QueryKeyNorm {
    kNone,
    kHead,      ///< every head by the same gain, RMS
    kEachHead,  ///< every head by a gain of its own, layer norm
    kRow,       ///< all heads together, RMS
  };
  Norm norm = Norm::kRms;
  Activation activation = Activation::kSilu;
  Positions positions = Positions::kRope;
  QueryKeyNorm query_key_norm = QueryKeyNorm::kNone;
  /// Attention and feed-forward part read the same state and both are added to it. It is so anyway
  /// where attention has a norm before it and the feed-forward part none: both then read that.
  bool parallel = false;
  /// The norms after a part stand on the sum (BERT) and not on what is added (Gemma).
  bool norms_sum = false;
  bool causal = true;
  /// The weights of the experts that a token goes to add up to one (before expert_scale).
  bool expert_weights_normed = true;
  /// Of each ModelConfig::full_period layers the first sees all tokens, and not the last.
  bool full_first = false;
};

/// How the hidden states of a text's tokens become one vector. The numbers are GGUF's
/// (ARCH.pooling_type).
enum class Pooling { kNone = 0, kMean = 1, kCls = 2, kLast = 3 };

/// "mean", "cls", "last"; "none".
std::string_view pooling_name(Pooling pooling);

struct ModelConfig {
  int64_t hidden = 0;
  int64_t layers = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;   ///< of queries and keys
  int64_t value_dim = 0;  ///< of values; 0: as head_dim
  int64_t ffn = 0;
  int64_t vocabulary = 0;
  int64_t context = 0;          ///< most tokens this program lets the model see
  int64_t sliding_window = 0;   ///< tokens that attention sees, the own included (see
                                ///< Attention::Pass); 0: all of them
  int64_t full_period = 0;      ///< every such layer sees all tokens all the same; 0: none
  int64_t rotary_dims = 0;      ///< of each head; 0: all of them
  int64_t position_offset = 0;  ///< row of the position table for the first token
  /// Rows at the front of Hugging Face's position table that no token has and GGUF leaves out.
  int64_t padding_positions = 0;
  int64_t token_types = 0;  ///< rows of the table of token types
  double norm_epsilon = 1e-5;
  double rope_theta = 10000;
  double rope_theta_local = 0;  ///< of layers with a sliding window, unscaled; 0: as the others
  RopeScaling rope_scaling;
  double embedding_scale = 1;
  double residual_scale = 1;   ///< of what attention and feed-forward part add
  double attention_scale = 0;  ///< of scores; 0: 1 / sqrt(head_dim)
  double logit_scale = 1;
  double attention_cap = 0;  ///< scores become cap * tanh(score / cap); 0: they stay
  double logit_cap = 0;
  int64_t experts = 0;  ///< 0: one feed-forward part for all tokens
  int64_t experts_used = 0;
  int64_t expert_ffn = 0;
  int64_t shared_ffn = 0;    ///< of the part beside the experts that all tokens go to; 0: none
  int64_t dense_layers = 0;  ///< so many layers at the front have no experts
  double expert_scale = 1;   ///< of the weights of experts
  /// Latent attention: what keys and values are made of in each layer, a row of so many numbers for
  /// all heads (and a turned part of the keys that they share); 0: each has matrices of its own.
  int64_t latent = 0;
  LayerDesign design;
  Pooling pooling = Pooling::kNone;
  bool tied_embeddings = false;

  bool has_rope() const { return design.positions == LayerDesign::Positions::kRope; }
  /// Dimensions of each head that rotary positions turn.
  int64_t turned_dims() const {
    if (!has_rope()) return 0;
    return rotary_dims != 0 ? rotary_dims : head_dim;
  }
  /// Dimensions of each value.
  int64_t value_size() const { return value_dim != 0 ? value_dim : head_dim; }
  /// Dimensions of each query and key that positions do not touch, under latent attention.
  int64_t still_dims() const { return head_dim - turned_dims(); }
  bool has_experts(int64_t layer) const { return experts > 0 && layer >= dense_layers; }
  bool slides(int64_t layer) const {
    const int64_t place = layer + (design.full_first ? 0 : 1);
    return sliding_window > 0 && (full_period == 0 || place % full_period != 0);
  }
};

/// Throws Error that begins with `where` unless every number is in its bounds and they agree with
/// each other. After it, no product of two sizes overflows.
void check_config(const ModelConfig& config, std::string_view where);

}  // namespace fewbits
