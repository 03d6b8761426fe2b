#include "model/architectures/llama.h"

#include "model/architectures/all.h"

// Llama 2 and 3, SmolLM2, TinyStories, and everything else that calls itself llama.
namespace fewbits::llama {

constexpr std::array<std::string_view, 1> kModelTypes = {"llama"};

constinit const Architecture architecture = llama_family::described_as(kModelTypes);

}  // namespace fewbits::llama
