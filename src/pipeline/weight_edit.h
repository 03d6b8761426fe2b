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

class EditedWeight;

/// What the weights of a model keep of rows that mix, all of them together: those used last.
class MixedRows {
 public:
  /// Row `row` of `weight`, of which all rows of its expert are computed where they are not kept.
  /// From any thread.
  void read(const EditedWeight& weight, int64_t row, float* out);

  /// Most memory that it keeps where `values` is the most that mix in one weight.
  static int64_t memory(int64_t values);

 private:
  struct Kept {
    const EditedWeight* weight;
    int64_t first;
    std::vector<float> values;
  };
  const std::vector<float>& rows(const EditedWeight& weight, int64_t first);

  std::mutex mutex_;
  std::list<Kept> kept_;  ///< used last: first
};

/// A weight as it is after an edit, computed as it is read. Where rows are not mixed, a row costs
/// reading it; else the rows that mix are computed at once and kept as floats until others are
/// asked for: all rows of a matrix, of one expert where it has several.
class EditedWeight {
 public:
  /// `weight` is copied, edit's rotations and `mixed` are referred to.
  EditedWeight(const Weight& weight, MixedRows& mixed) : source_(weight), mixed_(mixed) {
    source_.computed = {};
  }

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

  /// Values that are computed at once: of all rows that mix. 0: none do.
  int64_t values_mixed() const;

  int64_t experts() const { return source_.shape.size() > 2 ? source_.shape.front() : 1; }
  int64_t rows_of_expert() const { return source_.rows() / experts(); }

 private:
  friend MixedRows;

  void read_unmixed(int64_t row, float* out) const;
  /// The rows of one expert, the first of which is `first`.
  std::vector<float> mix(int64_t first) const;

  Weight source_;
  MixedRows& mixed_;
};

}  // namespace fewbits
