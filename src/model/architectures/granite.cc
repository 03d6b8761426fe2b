#include "model/architectures/all.h"
#include "model/architectures/llama.h"

// Granite 3: llama with four multipliers: of embeddings, of what each part adds, of scores, and of
// logits (there a divisor).
namespace fewbits::granite {

constexpr std::array<std::string_view, 1> kModelTypes = {"granite"};

constexpr auto kTensors = names::all_of(names::kStart, names::kAttentionNorm, names::kAttention,
                                        names::kMlpNorm, names::kGatedMlp, names::kEnd);

constexpr std::array<NumberKey, 4> kNumbers = {{
    {"embedding_multiplier", "embedding_scale", &ModelConfig::embedding_scale},
    {"residual_multiplier", "residual_scale", &ModelConfig::residual_scale},
    {"attention_multiplier", "attention.scale", &ModelConfig::attention_scale},
    {"logits_scaling", "logit_scale", &ModelConfig::logit_scale, true},
}};

constinit const Architecture architecture = {
    .name = "granite",
    .model_types = kModelTypes,
    .gguf_name = "granite",
    .tensors = kTensors,
    .ignored = llama_family::kIgnored,
    .demanded = llama_family::kDemanded,
    .gguf_interleaves_rope = true,
    .numbers = kNumbers,
};

}  // namespace fewbits::granite
