#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "pipeline/quantize.h"
#include "pipeline/rounding_error.h"

namespace fewbits {

/// One tensor on its way from the source to the file, a band of rows at a time: read, checked,
/// rounded (or taken as a calibrated method rounded it), encoded by all threads.
class TensorEncoder {
 public:
  TensorEncoder(const PlannedWeight& planned, const RoundedWeight& rounded, const QuantizeRun& run,
                ThreadPool& pool);

  int64_t rows_per_band() const { return rows_per_band_; }

  /// Rows [begin, begin + count) of the output, encoded. Valid until the next call.
  std::span<const std::byte> encode(int64_t begin, int64_t count);

  const RoundingError& total() const { return total_; }

 private:
  /// What a thread works on, kept from task to task: fresh memory would cost as much as the
  /// rounding of some formats.
  struct Open {
    std::vector<float> values, decoded;
    std::vector<std::byte> rounded;
  };

  RoundingError encode_rows_of_task(int64_t begin, int64_t rows, Open& open, std::byte* out) const;

  bool is_copied() const;

  /// What a calibrated method has rounded already is in total_ with what it lost.
  void round_rows(const std::vector<float>& values, int64_t begin, int64_t rows,
                  std::byte* out) const;

  void decode(const std::byte* bytes, int64_t rows, std::vector<float>& values) const;

  /// Rows of different experts have different importance.
  void encode_by_matrix(int64_t begin, int64_t rows, const float* values, std::byte* out) const;

  /// By matrix; empty where nothing is known.
  static std::vector<std::vector<float>> importance_of(const Weight& weight,
                                                       const Importance* importance);

  void check_range(const float* row, int64_t index) const;

  void copy_rows(int64_t begin, int64_t rows, std::byte* out) const;

  const Weight& weight_;
  const Format& format_;
  const Format& rounding_;
  Outer outer_;
  std::span<const std::byte> rounded_;
  Search search_;
  std::vector<std::vector<float>> importance_;  ///< [matrix][column]
  ThreadPool& pool_;
  int64_t columns_;
  int64_t rows_per_task_;
  int64_t rows_per_band_;
  std::vector<Open> open_;  ///< of each thread
  std::vector<std::byte> band_;
  RoundingError total_;
};

}  // namespace fewbits
