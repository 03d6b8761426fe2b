#include "model/architectures/all.h"
#include "model/architectures/llama.h"

// Mistral 7B and what follows it: llama, whose config may name a sliding window.
namespace fewbits::mistral {

constexpr std::array<std::string_view, 1> kModelTypes = {"mistral"};

constinit const Architecture architecture = llama_family::described_as(kModelTypes);

}  // namespace fewbits::mistral
