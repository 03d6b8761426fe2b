#include "pipeline/weight_edit.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "base/checked_math.h"

namespace fewbits {
namespace {

// Threads that work on one band of rows stand in at most so much, or in two experts.
constexpr int64_t kKeptValues = int64_t{1} << 24;
constexpr int64_t kRowsPerTask = 64;

void multiply_by(std::span<const float> factors, float* row) {
  for (size_t i = 0; i < factors.size(); ++i) row[i] *= factors[i];
}

void widen(float& largest, float value) {
  largest = std::max(largest, std::abs(value));
}

}  // namespace

void EditedWeight::read_row(int64_t row, float* out) const {
  if (!values.empty()) {
    std::copy(values.begin(), values.end(), out);
    return;
  }
  const int64_t columns = source_.columns();
  if (edit.rows == nullptr) {
    read_unmixed(row, out);
  } else {
    const std::lock_guard lock(mutex_);
    const int64_t first = row / rows_of_expert() * rows_of_expert();
    std::copy_n(mixed_rows(first).values.begin() + (row - first) * columns, columns, out);
  }
  const auto columns_of_all = static_cast<size_t>(columns);
  if (const auto& factors = edit.columns_after; !factors.empty()) {
    const size_t expert = static_cast<size_t>(row / rows_of_expert());
    const bool by_expert = factors.size() > columns_of_all;
    multiply_by(std::span(factors).subspan(by_expert ? expert * columns_of_all : 0, columns_of_all),
                out);
  }
  if (edit.rows_after.empty()) return;
  for (int64_t i = 0; i < columns; ++i) out[i] *= edit.rows_after[static_cast<size_t>(row)];
}

void EditedWeight::read_unmixed(int64_t row, float* out) const {
  source_.read_row(row, out);
  multiply_by(edit.columns_before, out);
  if (edit.columns == nullptr) return;
  for (int64_t i = 0; i < source_.columns(); i += edit.columns->size()) {
    edit.columns->apply(out + i);
  }
}

/// REQUIRES: mutex_ is held.
const EditedWeight::Mixed& EditedWeight::mixed_rows(int64_t first) const {
  const auto found = std::ranges::find(mixed_, first, &Mixed::first);
  if (found != mixed_.end()) {
    mixed_.splice(mixed_.begin(), mixed_, found);
    return mixed_.front();
  }
  const int64_t rows = rows_of_expert(), columns = source_.columns();
  while (mixed_.size() > 1 && std::ssize(mixed_) * rows * columns >= kKeptValues) {
    mixed_.pop_back();
  }
  Mixed& mixed = mixed_.emplace_front();
  mixed.first = first;
  mixed.values.resize(static_cast<size_t>(rows * columns));
  for (int64_t i = 0; i < rows; ++i) read_unmixed(first + i, mixed.values.data() + i * columns);
  source_.drop_pages();
  for (const int64_t start : edit.row_starts) {
    if (start < first || start >= first + rows) continue;
    edit.rows->apply(mixed.values.data() + (start - first) * columns, columns, columns);
  }
  return mixed;
}

std::vector<float> EditedWeight::largest_of_rows(ThreadPool& pool) const {
  std::vector<float> largest(static_cast<size_t>(source_.rows()));
  pool.run(divide_up(source_.rows(), kRowsPerTask), [&](int64_t task, int) {
    std::vector<float> row(static_cast<size_t>(source_.columns()));
    const int64_t end = std::min(source_.rows(), (task + 1) * kRowsPerTask);
    for (int64_t i = task * kRowsPerTask; i < end; ++i) {
      read_row(i, row.data());
      for (const float value : row) widen(largest[static_cast<size_t>(i)], value);
    }
  });
  source_.drop_pages();
  return largest;
}

std::vector<float> EditedWeight::largest_of_columns(ThreadPool& pool) const {
  const auto columns = static_cast<size_t>(source_.columns());
  std::vector<float> largest(static_cast<size_t>(experts()) * columns);
  std::mutex merging;
  pool.run(divide_up(source_.rows(), kRowsPerTask), [&](int64_t task, int) {
    std::vector<float> row(columns), part(largest.size());
    const int64_t end = std::min(source_.rows(), (task + 1) * kRowsPerTask);
    for (int64_t i = task * kRowsPerTask; i < end; ++i) {
      read_row(i, row.data());
      float* out = part.data() + static_cast<size_t>(i / rows_of_expert()) * columns;
      for (size_t j = 0; j < columns; ++j) widen(out[j], row[j]);
    }
    const std::lock_guard lock(merging);  // the largest is the same in any order
    for (size_t j = 0; j < part.size(); ++j) widen(largest[j], part[j]);
  });
  source_.drop_pages();
  return largest;
}

int64_t EditedWeight::memory() const {
  if (edit.rows == nullptr) return 0;
  const int64_t values_of_one = rows_of_expert() * source_.columns();
  const int64_t kept =
      std::min(experts(), std::max<int64_t>(2, kKeptValues / values_of_one)) * values_of_one;
  return kept * static_cast<int64_t>(sizeof(float));
}

}  // namespace fewbits
