#include "kernels/machine_limits.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/timing.h"
#include "formats/bit_planes.h"
#include "kernels/huge_buffer.h"
#include "kernels/kernel_table.h"

namespace fewbits {
namespace {

constexpr int kLeastRuns = 3;
constexpr double kSecondsEach = 0.3;

double operations_per_second(ThreadPool& pool, double (*probe)(int64_t, float*)) {
  constexpr int64_t kRounds = 200000;
  double operations = 0;
  const double seconds = best_seconds(kLeastRuns, kSecondsEach, [&] {
    pool.run(pool.threads(), [&](int64_t task, int) {
      float sink;
      const double done = probe(kRounds, &sink);
      if (task == 0) operations = done * pool.threads();
    });
  });
  return operations / seconds;
}

double bytes_per_second(ThreadPool& pool) {
  constexpr int64_t kBytes = int64_t{1} << 29;  // far beyond any last-level cache
  constexpr int64_t kTask = int64_t{1} << 20;
  HugeBuffer data;  // as weights lie
  data.reserve(kBytes);
  std::fill_n(data.data(), kBytes, std::byte{1});
  const double seconds = best_seconds(kLeastRuns, kSecondsEach, [&] {
    pool.run(kBytes / kTask, [&](int64_t task, int) {
      float sink;
      kernels().probe_read(as_bytes(data.data()) + task * kTask, kTask, &sink);
    });
  });
  return static_cast<double>(kBytes) / seconds;
}

}  // namespace

MachineLimits measure_machine_limits(ThreadPool& pool) {
  const TileKernels* tiles = kernels().tiles;
  return {bytes_per_second(pool), operations_per_second(pool, kernels().probe_int8),
          operations_per_second(pool, kernels().probe_fma),
          tiles == nullptr ? 0 : operations_per_second(pool, tiles->probe)};
}

MachineLimits larger(const MachineLimits& a, const MachineLimits& b) {
  return {std::max(a.read_bytes, b.read_bytes), std::max(a.int8_operations, b.int8_operations),
          std::max(a.float_operations, b.float_operations),
          std::max(a.tile_operations, b.tile_operations)};
}

}  // namespace fewbits
