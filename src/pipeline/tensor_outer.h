#pragma once

#include "base/thread_pool.h"
#include "formats/format.h"
#include "model/model.h"

namespace fewbits {

/// The parameters that all rows of a tensor share in `format`; none where the format has none. One
/// pass over the tensor where it has; the same result for any number of threads.
Outer tensor_outer(const Format& format, const Weight& weight, ThreadPool& pool);

}  // namespace fewbits
