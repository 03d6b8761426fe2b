#pragma once

#include "model/architecture.h"

// Every architecture, each defined in the file of its name.
namespace fewbits {

namespace llama {
extern const Architecture architecture;
}
namespace mistral {
extern const Architecture architecture;
}

}  // namespace fewbits
