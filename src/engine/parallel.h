#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>

#include "base/checked_math.h"
#include "base/thread_pool.h"

namespace fewbits {

/// body(i) for i in [0, count), shared out in runs of `grain`; a single run stays on the calling
/// thread.
template <class Body>
void parallel_for(ThreadPool& pool, int64_t count, int64_t grain, const Body& body) {
  const auto run = [&](int64_t task, int) {
    const int64_t end = std::min(count, (task + 1) * grain);
    for (int64_t i = task * grain; i < end; ++i) body(i);
  };
  pool.run(divide_up(count, grain), std::ref(run));  // by reference: no allocation for each pass
}

}  // namespace fewbits
