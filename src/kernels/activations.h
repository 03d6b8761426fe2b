#pragma once

#include <vector>

#include "kernels/huge_buffer.h"
#include "kernels/matmul.h"

namespace fewbits {

struct Activations::Impl {
  const float* values = nullptr;
  int64_t tokens = 0;
  int64_t columns = 0;
  std::vector<HugeBuffer>
      scratch;  ///< one for each thread of the pool, grown when a product needs more
};

}  // namespace fewbits
