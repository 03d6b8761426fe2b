#pragma once

#include <filesystem>

#include "files/tensor_store.h"

// Low-rank adapters as PEFT writes them: a folder with adapter_config.json and
// adapter_model.safetensors. A linear layer X with weight W [out, in] has
//
//     base_model.model.X.lora_A.weight [r, in]     base_model.model.X.lora_B.weight [out, r]
//
// and becomes W + s B A, where s is lora_alpha / r, or lora_alpha / sqrt(r) with use_rslora.
// Source: Hu et al., "LoRA" (arXiv 2106.09685); Kalajdzievski, "A Rank Stabilization Scaling
// Factor" (arXiv 2312.03732).
namespace fewbits {

/// Merges an adapter into the tensors of a model folder, row by row as they are read; only the
/// adapter itself is kept in memory, as floats. Throws Error where it is no LoRA of linear layers
/// (DoRA, embeddings, biases and whole modules are not merged), or does not fit the model.
void merge_lora(TensorStore& store, const std::filesystem::path& adapter);

}  // namespace fewbits
