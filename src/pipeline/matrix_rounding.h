#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "methods/hessian.h"
#include "model/model.h"
#include "pipeline/calibration_options.h"
#include "pipeline/sample_streams.h"

// One matrix of a layer, rounded to what its site is fed.
namespace fewbits {

/// What the rows of the matrices that read a site are fitted to.
struct RoundingTarget {
  const SiteMoments& moments;
  const Hessian& hessian;
  std::vector<float> column_scales = {};  ///< by which columns are multiplied; empty: all 1
  /// Where the moments have a cross, the mean squares of the columns as they were gathered.
  std::vector<float> squares = {};
  std::vector<int32_t> columns = {};  ///< what is rounded has these in turn; empty: all in order
};

/// A matrix as it was rounded: rows in GGUF's order.
struct EncodedMatrix {
  std::vector<std::byte> bytes;
  double error = 0, square = 0;
  std::optional<float> largest_input = {};
  std::vector<int32_t> columns = {};  ///< as RoundedWeight's
  // Until learning is done: what was rounded, and where each weight would be best while all
  // others are as they were rounded.
  std::vector<float> wanted = {}, best = {};
};

class MatrixRounding {
 public:
  /// `row_scales`: rows (in our order) are divided by these; empty: all 1. All references must
  /// outlive this object.
  MatrixRounding(const Weight& weight, const Format& format, const RoundingTarget& target,
                 std::span<const float> row_scales, const CalibrationOptions& options,
                 ThreadPool& pool)
      : weight_(weight),
        format_(format),
        target_(target),
        row_scales_(row_scales),
        options_(options),
        pool_(pool) {}

  /// Throws Interrupted where the user wants to stop.
  EncodedMatrix round() const;

  /// (W - W^) E[x], in our order of rows.
  std::vector<float> lost_means(std::span<const std::byte> rounded) const;

 private:
  struct Rows {
    int64_t first, count;  ///< in GGUF's order
  };
  struct Sums {
    double error = 0, square = 0;
  };

  Sums round_rows_of_task(Rows rows, const Outer& outer, EncodedMatrix& encoded) const;
  Outer outer_of_tensor() const;
  std::vector<float> scaled(Rows rows) const;
  void aim_at_outputs(Rows rows, std::vector<float>& values) const;
  std::vector<float> missing_outputs(Rows rows, const std::vector<float>& values) const;

  const Weight& weight_;
  const Format& format_;
  const RoundingTarget& target_;
  std::span<const float> row_scales_;
  const CalibrationOptions& options_;
  ThreadPool& pool_;
};

/// The values of a matrix that has columns in another order, each where it belongs.
std::vector<float> values_in_order(const Weight& weight, const Format& format,
                                   const EncodedMatrix& encoded);

/// Sets the error to what the bytes lose of what was wanted.
void update_error(const Weight& weight, const Format& format, EncodedMatrix& encoded);

}  // namespace fewbits
