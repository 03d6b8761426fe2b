#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "formats/format.h"
#include "methods/column_scales.h"
#include "model/model.h"

namespace fewbits {

struct ScaledReader {
  const Weight* weight;
  const Format* format;  ///< that it will be rounded to
};

/// Matrices that are fed the same, and what is known of that.
struct ScaleSearch {
  std::vector<ScaledReader> readers = {};
  std::vector<double> inputs = {};   ///< squares by column, up to a factor
  std::span<const float> gram = {};  ///< [columns][columns]; empty: only `inputs` is known
  /// Columns that must share a scale have the same number, in [0, scales); empty: each has its own.
  std::vector<int32_t> scale_of_column = {};
};

/// Scales by which columns are multiplied before rounding; what the matrices are fed is divided by
/// them. REQUIRES: `scaling` is not kNone.
///
/// kAwq: of awq_candidates, the one with the least output error d^T H d of rounding to nearest, H
/// the gram matrix or, without one, its diagonal, over some rows of the matrices.
std::vector<float> choose_scales(const ScaleSearch& search, ColumnScaling scaling,
                                 ThreadPool& pool);

}  // namespace fewbits
