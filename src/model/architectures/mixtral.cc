#include "model/architectures/all.h"
#include "model/architectures/llama.h"

// Mixtral 8x7B and 8x22B: Mistral with eight experts, of which a token goes to two; their weights
// add up to one. (Jiang et al., "Mixtral of Experts", arXiv 2401.04088)
namespace fewbits::mixtral {

constexpr std::array<std::string_view, 1> kModelTypes = {"mixtral"};

constinit const Architecture architecture = llama_family::described_as(kModelTypes);

}  // namespace fewbits::mixtral
