#include "model/architectures/all.h"

#include <array>

namespace fewbits {

// Sorted by name. A new architecture is one file, one line in all.h and one line here.
std::span<const Architecture* const> architectures() {
  static constexpr std::array<const Architecture*, 19> kArchitectures = {{
      &bert::architecture,     &deepseek2::architecture,  &falcon::architecture,
      &gemma2::architecture,   &gemma3::architecture,     &gpt2::architecture,
      &granite::architecture,  &llama::architecture,      &mistral::architecture,
      &mixtral::architecture,  &modernbert::architecture, &olmo2::architecture,
      &opt::architecture,      &phi3::architecture,       &qwen2::architecture,
      &qwen3::architecture,    &qwen3_moe::architecture,  &roberta::architecture,
      &stablelm::architecture,
  }};
  return kArchitectures;
}

}  // namespace fewbits
