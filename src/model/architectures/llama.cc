#include "model/architectures/llama.h"

#include "model/architectures/all.h"

// Llama 2 and 3, SmolLM2, TinyStories, and everything else that calls itself llama. In GGUF all of
// the family, Mistral too, is "llama".
namespace fewbits::llama {

constexpr std::array<std::string_view, 1> kModelTypes = {"llama"};

constinit const Architecture architecture = {
    .name = "llama",
    .model_types = kModelTypes,
    .gguf_name = "llama",
    .tensors = llama_family::kTensors,
    .ignored = llama_family::kIgnored,
    .demanded = llama_family::kDemanded,
    .gguf_interleaves_rope = true,
};

}  // namespace fewbits::llama
