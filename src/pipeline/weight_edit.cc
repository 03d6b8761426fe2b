#include "pipeline/weight_edit.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "base/checked_math.h"

namespace fewbits {
namespace {

// Threads that work on one band of rows stand in at most so much, or in two matrices.
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
    mixed_.read(*this, row, out);
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

std::vector<float> EditedWeight::mix(int64_t first) const {
  const int64_t rows = rows_of_expert(), columns = source_.columns();
  std::vector<float> values(static_cast<size_t>(rows * columns));
  for (int64_t i = 0; i < rows; ++i) read_unmixed(first + i, values.data() + i * columns);
  source_.drop_pages();
  for (const int64_t start : edit.row_starts) {
    if (start < first || start >= first + rows) continue;
    edit.rows->apply(values.data() + (start - first) * columns, columns, columns);
  }
  return values;
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

int64_t EditedWeight::values_mixed() const {
  return edit.rows == nullptr ? 0 : rows_of_expert() * source_.columns();
}

void MixedRows::read(const EditedWeight& weight, int64_t row, float* out) {
  const std::lock_guard lock(mutex_);
  const int64_t columns = weight.source().columns();
  const int64_t first = row / weight.rows_of_expert() * weight.rows_of_expert();
  std::copy_n(rows(weight, first).begin() + (row - first) * columns, columns, out);
}

const std::vector<float>& MixedRows::rows(const EditedWeight& weight, int64_t first) {
  const auto found = std::ranges::find_if(kept_, [&](const Kept& kept) {
    return kept.weight == &weight && kept.first == first;
  });
  if (found != kept_.end()) {
    kept_.splice(kept_.begin(), kept_, found);
    return kept_.front().values;
  }
  int64_t values = weight.values_mixed();
  for (const Kept& kept : kept_) values += std::ssize(kept.values);
  while (kept_.size() > 1 && values > kKeptValues) {
    values -= std::ssize(kept_.back().values);
    kept_.pop_back();
  }
  kept_.push_front({&weight, first, weight.mix(first)});
  return kept_.front().values;
}

int64_t MixedRows::memory(int64_t values) {
  return values == 0 ? 0 : std::max(2 * values, kKeptValues) * static_cast<int64_t>(sizeof(float));
}

}  // namespace fewbits
