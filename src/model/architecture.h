#pragma once

#include <span>
#include <string_view>

#include "base/json.h"
#include "files/metadata.h"
#include "formats/tensor_view.h"
#include "model/config.h"

// An architecture is a description, not a loop: names of tensors, values that config keys must
// have, and which variant of each part it has. One file each in architectures/, one line each in
// architectures/all.cc.
namespace fewbits {

/// What a tensor does in a decoder.
enum class Role {
  kEmbedding,
  kRopeFactors,
  kOutputNorm,
  kOutput,
  kAttentionNorm,
  kQuery,
  kKey,
  kValue,
  kAttentionOutput,
  kMlpNorm,
  kGate,
  kUp,
  kDown,
};

/// The shape a role's tensor must have: {rows, columns} or {columns}.
Shape expected_shape(Role role, const ModelConfig& config);

/// "{}" stands for the layer in both names. An empty Hugging Face name: only GGUF has this tensor.
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

struct Architecture {
  std::string_view name;                          ///< sorted by this
  std::span<const std::string_view> model_types;  ///< config.json's model_type values
  std::string_view gguf_name;                     ///< general.architecture
  std::span<const TensorName>
      tensors;  ///< embedding, layers, output norm, output: the order of a GGUF
  std::span<const std::string_view>
      ignored;  ///< globs of tensors that a checkpoint may carry and nobody needs
  std::span<const DemandedValue> demanded;
  bool gguf_interleaves_rope;  ///< GGUF keeps the rows of q and k with each RoPE pair side by side
};

/// Sorted by name.
std::span<const Architecture* const> architectures();

/// By config.json's model_type or by general.architecture. Throws Error that lists the known
/// architectures and names the key it stumbled on. Architectures that share a GGUF name share
/// everything a GGUF says; the first is taken.
const Architecture& architecture_of(const Json& config, std::string_view where);
const Architecture& architecture_of(const Metadata& metadata, std::string_view where);

/// Reads and checks the numbers. `tied_embeddings` is what the config says; a GGUF does not say.
ModelConfig read_config(const Architecture& architecture, const Json& config,
                        std::string_view where);
ModelConfig read_config(const Architecture& architecture, const Metadata& metadata,
                        std::string_view where);

/// The ARCH.* keys that stock llama.cpp reads, in the order in which its converter writes them.
void write_config(const Architecture& architecture, const ModelConfig& config, Metadata& metadata);

}  // namespace fewbits
