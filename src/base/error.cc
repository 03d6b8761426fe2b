#include "base/error.h"

#include <cstdio>
#include <cstdlib>

namespace fewbits {

void check_failed(const char* condition, const char* file, int line) noexcept {
  std::fprintf(stderr, "fewbits: internal error: %s:%d: check(%s) failed\n", file, line, condition);
  std::abort();
}

}  // namespace fewbits
