#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/thread_pool.h"
#include "model/model.h"

namespace fewbits {

/// A value further from zero than this many times its tensor's RMS counts as an outlier. Of
/// Gaussian weights 0.006 % do; a tensor with far more of them is hard to quantize.
inline constexpr double kOutlierRms = 4;

struct TensorStatistics {
  double minimum = 0;
  double maximum = 0;
  double rms = 0;
  double outlier_share = 0;  ///< of the values, in [0, 1]
  std::optional<double>
      relative_error;  ///< sum of squared differences over sum of squares of `against`
};

/// Reads one weight as floats, band by band, twice (the RMS must be known before outliers are);
/// `against`, if given, is the same weight of another model. Rows are compared in the program's
/// order. The same numbers for any thread count. Throws Error where the shapes differ.
TensorStatistics tensor_statistics(const Weight& weight, const Weight* against, ThreadPool& pool);

}  // namespace fewbits
