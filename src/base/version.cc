#include "base/version.h"

namespace fewbits {

std::string_view program_version() {
  return FEWBITS_VERSION;
}

}  // namespace fewbits
