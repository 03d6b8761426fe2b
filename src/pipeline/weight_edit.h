#pragma once

#include <cstdint>
#include <list>
#include <mutex>
#include <vector>

#include "base/thread_pool.h"
#include "methods/hadamard.h"
#include "model/model.h"

namespace fewbits {

/// What is done to a matrix W [rows][columns], in this order; empty: nothing. Rows are counted
/// through all experts of a tensor.
struct WeightEdit {
  std::vector<float> columns_before = {};     ///< factors, by column
  const HadamardRotation* columns = nullptr;  ///< turns each run of its size in a row
  std::vector<float> columns_after = {};      ///< factors, by column, or by expert and column
  const HadamardRotation* rows = nullptr;     ///< turns, in each column, the runs of rows ..
  std::vector<int64_t> row_starts = {};       ///< .. that begin here, rising
  std::vector<float> rows_after = {};         ///< factors, by row
};

/// A weight as it is after an edit, computed as it is read. Where rows are not mixed, a row costs
/// reading it; else the rows that mix are computed at once and kept as floats until others are
/// asked for: all rows of a matrix, of one expert where it has several.
class EditedWeight {
 public:
  /// `weight` is copied, edit's rotations are referred to.
  explicit EditedWeight(const Weight& weight) : source_(weight) { source_.computed = {}; }

  const Weight& source() const { return source_; }
  /// May be changed until the first row is read, and factors behind rotations at any time.
  WeightEdit edit = {};
  /// In place of all that: of a vector.
  std::vector<float> values = {};

  /// One of our rows. Out: columns. From any thread.
  void read_row(int64_t row, float* out) const;

  /// The largest magnitude of each row, and of each column of each expert.
  std::vector<float> largest_of_rows(ThreadPool& pool) const;
  std::vector<float> largest_of_columns(ThreadPool& pool) const;

  /// Most memory it keeps.
  int64_t memory() const;

  int64_t experts() const { return source_.shape.size() > 2 ? source_.shape.front() : 1; }
  int64_t rows_of_expert() const { return source_.rows() / experts(); }

 private:
  struct Mixed {
    int64_t first = 0;
    std::vector<float> values;
  };

  void read_unmixed(int64_t row, float* out) const;
  const Mixed& mixed_rows(int64_t first) const;

  Weight source_;
  mutable std::mutex mutex_;
  mutable std::list<Mixed> mixed_;  ///< used last: first
};

}  // namespace fewbits
