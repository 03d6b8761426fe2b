#include "model/architectures/all.h"
#include "model/architectures/llama.h"

// Mistral 7B and what follows it: llama, whose config may name a sliding window.
namespace fewbits::mistral {

constexpr std::array<std::string_view, 1> kModelTypes = {"mistral"};

constinit const Architecture architecture = {
    .name = "mistral",
    .model_types = kModelTypes,
    .gguf_name = "llama",
    .tensors = llama_family::kTensors,
    .ignored = llama_family::kIgnored,
    .demanded = llama_family::kDemanded,
    .gguf_interleaves_rope = true,
};

}  // namespace fewbits::mistral
