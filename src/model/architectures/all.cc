#include "model/architectures/all.h"

#include <array>

namespace fewbits {

// Sorted by name. A new architecture is one file, one line in all.h and one line here.
std::span<const Architecture* const> architectures() {
  static constexpr std::array kArchitectures = {
      &llama::architecture,
      &mistral::architecture,
  };
  return kArchitectures;
}

}  // namespace fewbits
