#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/config.h"

// An architecture is a description, not a loop: names of config keys and tensors and which variant of each part it has.
// One file each in architectures/, one line each in architectures/all.cc.
namespace fewbits {

/// What a tensor does in a decoder.
enum class Role {
  kEmbedding, kOutputNorm, kOutput,
  kAttentionNorm, kQuery, kKey, kValue, kAttentionOutput,
  kMlpNorm, kGate, kUp, kDown,
};

/// "{}" stands for the layer in both names.
struct TensorName {
  Role role;
  std::string_view hugging_face;  ///< "model.layers.{}.self_attn.q_proj.weight"
  std::string_view gguf;          ///< "blk.{}.attn_q.weight"
};

struct Architecture {
  std::string_view name;                          ///< sorted by this
  std::span<const std::string_view> model_types;  ///< config.json's model_type values
  std::string_view gguf_name;                     ///< general.architecture
  std::span<const TensorName> tensors;
  bool gguf_interleaves_rope;  ///< GGUF keeps the rows of q and k with each RoPE pair side by side
};

std::span<const Architecture* const> architectures();

/// Reads config.json. Throws Error that lists the known architectures and names the key it stumbled on.
const Architecture& architecture_of(const Json& config, std::string_view where);
const Architecture& architecture_of(const Metadata& metadata, std::string_view where);
ModelConfig read_config(const Architecture& architecture, const Json& config, std::string_view where);
ModelConfig read_config(const Architecture& architecture, const Metadata& metadata, std::string_view where);
/// The keys general.architecture and ARCH.* that stock llama.cpp reads.
void write_config(const Architecture& architecture, const ModelConfig& config, Metadata& metadata);

}  // namespace fewbits
