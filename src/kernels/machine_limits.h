#pragma once

#include "base/thread_pool.h"

namespace fewbits {

/// What this machine can do at best, all threads of a pool together, with the instruction set in
/// use: what speeds are measured against.
struct MachineLimits {
  double read_bytes = 0;        ///< bytes per second read from memory
  double int8_operations = 0;   ///< multiplications and additions of int8, summed exactly
  double float_operations = 0;  ///< of fused multiply-adds of F32, each counted as two
  double tile_operations = 0;   ///< of bfloats in a unit for matrices; 0: there is none

  /// What bounds products of int8 codes, and of weights of 16 bits, with many tokens.
  double many_codes() const { return tile_operations > 0 ? tile_operations : int8_operations; }
  double many_floats() const { return tile_operations > 0 ? tile_operations : float_operations; }
};

/// Takes about a second and 512 MiB for a moment. Runs that other load disturbs read lower: measure
/// again beside what is compared with it, and keep the larger (`larger`).
MachineLimits measure_machine_limits(ThreadPool& pool);

MachineLimits larger(const MachineLimits& a, const MachineLimits& b);

}  // namespace fewbits
