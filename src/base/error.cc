#include "base/error.h"

#include <cstdio>
#include <cstdlib>

namespace fewbits {

void check_failed(const char* file, int line) noexcept {
  std::fprintf(stderr, "fewbits: internal error: check failed at %s:%d\n", file, line);
  std::abort();
}

}  // namespace fewbits
