#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "base/json.h"
#include "files/metadata.h"
#include "formats/tensor_view.h"
#include "model/config.h"

// An architecture is a description, not a loop: names of tensors, values that config keys must
// have, and which variant of each part it has. One file each in architectures/, one line each in
// architectures/all.cc.
namespace fewbits {

/// What a tensor does in a model.
enum class Role {
  kEmbedding,
  kTokenTypes,
  kPositions,
  kEmbeddingNorm,
  kEmbeddingNormBias,
  kRopeFactors,
  kRopeFactorsLong,
  kRopeFactorsShort,
  kOutputNorm,
  kOutputNormBias,
  kOutput,
  kOutputBias,
  kAttentionNorm,
  kAttentionNormBias,
  kQuery,
  kQueryBias,
  kKey,
  kKeyBias,
  kValue,
  kValueBias,
  kQueryKeyValue,  ///< the three in one, one after the other
  kQueryKeyValueBias,
  kQueryNorm,
  kKeyNorm,
  kLatent,  ///< keys and values before they are made larger, and the keys' turned part
  kLatentNorm,
  kKeyValue,         ///< head by head the keys' other part and the values, from the latent rows
  kKeyFromLatent,    ///< the first of these alone, {heads, latent, dimensions} (GGUF)
  kValueFromLatent,  ///< the second alone, {heads, dimensions, latent} (GGUF)
  kAttentionOutput,
  kAttentionOutputBias,
  kAttentionPostNorm,
  kAttentionPostNormBias,
  kMlpNorm,
  kMlpNormBias,
  kGate,
  kUp,
  kUpBias,
  kGateUp,  ///< the two in one, one after the other
  kDown,
  kDownBias,
  kMlpPostNorm,
  kMlpPostNormBias,
  kRouter,  ///< scores of the experts
  kExpertGate,
  kExpertUp,
  kExpertDown,
  kSharedGate,  ///< beside the experts, for all tokens
  kSharedUp,
  kSharedDown,
};

/// The shape a role's tensor must have: {rows, columns}, {columns}, or {experts, rows, columns}.
Shape expected_shape(Role role, const ModelConfig& config);

/// Whether a role's tensor multiplies hidden states or holds a row for each token, and so is what
/// quantization is about. The others (norms, biases, routers, positions) stay as they are.
bool is_linear_map(Role role);

/// "{}" stands for the layer in both names. An empty Hugging Face name: only GGUF has this tensor.
/// A second "{}" in the Hugging Face name stands for the expert (or head): one tensor there for
/// each, all of them in one in GGUF.
struct TensorName {
  Role role;
  std::string_view hugging_face;  ///< "model.layers.{}.self_attn.q_proj.weight"
  std::string_view gguf;          ///< "blk.{}.attn_q.weight"
  bool optional = false;
};

/// A key of config.json that may be absent but, where it stands, must have this value (as JSON
/// text): whatever the forward pass cannot do is refused by name instead of giving wrong numbers.
struct DemandedValue {
  std::string_view key;
  std::string_view json;
};

/// A number that not every architecture has, by its key in config.json and in GGUF (without the
/// prefix; "": not there).
struct NumberKey {
  std::string_view hugging_face;
  std::string_view gguf;
  double ModelConfig::*field;
  bool inverse = false;  ///< the files keep 1 / value
};

struct Architecture {
  std::string_view name;                          ///< sorted by this
  std::span<const std::string_view> model_types;  ///< config.json's model_type values
  std::string_view gguf_name;                     ///< general.architecture
  std::span<const TensorName>
      tensors;  ///< embedding, layers, output norm, output: the order of a GGUF
  std::span<const std::string_view> ignored =
      {};  ///< globs of tensors that a checkpoint may carry and nobody needs
  std::span<const DemandedValue> demanded = {};
  bool gguf_interleaves_rope =
      false;  ///< GGUF keeps the rows of q and k with each RoPE pair side by side
  LayerDesign design = {};
  std::span<const NumberKey> numbers = {};
  std::string_view defaults = {};  ///< JSON: what config.json leaves out where it is so
  std::string_view prefix = {};    ///< what some checkpoints put before every Hugging Face name
  bool tied_by_default = false;    ///< tie_word_embeddings where config.json is silent
  bool norms_around_one = false;   ///< Hugging Face keeps norm gains less one, GGUF whole
  bool transposed = false;         ///< Hugging Face keeps layers' matrices as {columns, rows}
  bool grouped_qkv =
      false;  ///< Hugging Face keeps each key/value head behind the queries it serves
  int64_t ffn_multiple = 0;  ///< feed-forward size over hidden size where config.json is silent
  int64_t full_period = 0;   ///< ModelConfig::full_period where the files are silent
  /// What follows from the numbers of either file and stands in neither, and for config.json (null:
  /// it is a GGUF) what needs more than a key and a number. Null: nothing.
  void (*complete)(ModelConfig& config, const Json* json, std::string_view where) = nullptr;
};

/// Sorted by name.
std::span<const Architecture* const> architectures();

/// By config.json's model_type or by general.architecture. Throws Error that lists the known
/// architectures and names the key it stumbled on. Architectures that share a GGUF name share
/// everything a GGUF says; the first is taken.
const Architecture& architecture_of(const Json& config, std::string_view where);
const Architecture& architecture_of(const Metadata& metadata, std::string_view where);

/// The architecture that a model of an unknown name is offered as where `has_tensor` knows all the
/// names of Llama's first layer; null where it does not. `gguf`: names as GGUF has them.
const Architecture* llama_shaped(const std::function<bool(const std::string&)>& has_tensor,
                                 bool gguf);

/// Whether architecture_of would find one.
bool is_known_architecture(const Json& config);
bool is_known_architecture(const Metadata& metadata);

/// Reads and checks the numbers. `tied_embeddings` is what the config says; a GGUF does not say.
ModelConfig read_config(const Architecture& architecture, const Json& config,
                        std::string_view where);
ModelConfig read_config(const Architecture& architecture, const Metadata& metadata,
                        std::string_view where);

/// The ARCH.* keys that stock llama.cpp reads, in the order in which its converter writes them.
void write_config(const Architecture& architecture, const ModelConfig& config, Metadata& metadata);

}  // namespace fewbits
