#pragma once

#include <algorithm>
#include <chrono>

namespace fewbits {

inline double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Seconds of the fastest of several runs: at least `least_runs`, and for as long as `budget`
/// seconds have not passed. Other load on a machine only ever makes a run slower.
template <class Run>
double best_seconds(int least_runs, double budget, const Run& run) {
  double best = 1e30;
  const double end = seconds_now() + budget;
  for (int i = 0; i < least_runs || seconds_now() < end; ++i) {
    const double start = seconds_now();
    run();
    best = std::min(best, seconds_now() - start);
  }
  return best;
}

}  // namespace fewbits
