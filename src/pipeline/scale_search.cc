#include "pipeline/scale_search.h"

#include <algorithm>

#include "base/checked_math.h"
#include "base/error.h"
#include "calibrate/blas.h"

namespace fewbits {
namespace {

// Enough to tell candidates apart: of all matrices together, at even distances.
constexpr int64_t kRowsTried = 192;

constexpr float kLeastImportance = 1e-30f;  // encoders want positive numbers

size_t at(int64_t i) {
  return static_cast<size_t>(i);
}

class Choice {
 public:
  explicit Choice(const ScaleSearch& search)
      : search_(search), columns_(search.readers.front().weight->columns()) {
    check(std::ssize(search.inputs) == columns_);
    int32_t scales = static_cast<int32_t>(columns_);
    if (!search.scale_of_column.empty()) {
      scales = *std::ranges::max_element(search.scale_of_column) + 1;
    }
    inputs_.resize(at(scales));
    weights_.resize(at(scales));
  }

  void gather() {
    for (int64_t j = 0; j < columns_; ++j) inputs_[scale_of(j)] += search_.inputs[at(j)];
    std::vector<float> row(at(columns_));
    for (const ScaledReader& reader : search_.readers) {
      for (int64_t i = 0; i < reader.weight->rows(); ++i) {
        reader.weight->read_row(i, row.data());
        for (int64_t j = 0; j < columns_; ++j) {
          weights_[scale_of(j)] += double{row[at(j)]} * row[at(j)];
        }
      }
    }
  }

  std::vector<float> balanced() const { return column_scales(inputs_, weights_); }

  std::vector<float> best_of_awq(ThreadPool& pool) {
    read_rows();
    std::vector<std::vector<float>> candidates = awq_candidates(inputs_, weights_);
    std::vector<double> errors(candidates.size());
    pool.run(std::ssize(candidates),
             [&](int64_t task, int) { errors[at(task)] = error_of(candidates[at(task)]); });
    const auto least = std::ranges::min_element(errors) - errors.begin();
    return std::move(candidates[at(least)]);
  }

 private:
  size_t scale_of(int64_t column) const {
    const auto& map = search_.scale_of_column;
    return map.empty() ? at(column) : static_cast<size_t>(map[at(column)]);
  }

  void read_rows() {
    int64_t all = 0;
    for (const ScaledReader& reader : search_.readers) all += reader.weight->rows();
    const int64_t step = divide_up(all, kRowsTried);
    int64_t first = 0;  // of this reader, among the rows of all
    for (const ScaledReader& reader : search_.readers) {
      std::vector<float>& rows = rows_.emplace_back();
      for (int64_t i = round_up(first, step) - first; i < reader.weight->rows(); i += step) {
        rows.resize(rows.size() + at(columns_));
        reader.weight->read_row(i, rows.data() + std::ssize(rows) - columns_);
      }
      first += reader.weight->rows();
    }
  }

  double error_of(const std::vector<float>& scales) const {
    std::vector<float> factors(at(columns_)), importance(at(columns_));
    for (int64_t j = 0; j < columns_; ++j) {
      const float scale = scales[scale_of(j)];
      factors[at(j)] = scale;
      importance[at(j)] = std::max(
          kLeastImportance, static_cast<float>(search_.inputs[at(j)] / (double{scale} * scale)));
    }
    double error = 0;
    for (size_t i = 0; i < rows_.size(); ++i) {
      if (rows_[i].empty()) continue;
      error += output_error(change(*search_.readers[i].format, rows_[i], factors, importance));
    }
    return error;
  }

  /// Of rows that are scaled, rounded and scaled back.
  std::vector<float> change(const Format& format, const std::vector<float>& rows,
                            const std::vector<float>& factors,
                            const std::vector<float>& importance) const {
    const int64_t count = std::ssize(rows) / columns_;
    std::vector<float> scaled(rows), found(rows.size());
    for (size_t i = 0; i < rows.size(); ++i) scaled[i] *= factors[i % factors.size()];
    std::vector<std::byte> bytes(at(count * row_bytes(format, columns_)));
    const float* weights = format.is_float() ? nullptr : importance.data();
    encode_rows(format, scaled.data(), count, columns_, weights, Search::kBest, bytes.data());
    decode_rows(format, bytes.data(), count, columns_, found.data());
    for (size_t i = 0; i < rows.size(); ++i)
      found[i] = found[i] / factors[i % factors.size()] - rows[i];
    return found;
  }

  double output_error(const std::vector<float>& changes) const {
    double error = 0;
    if (search_.gram.empty()) {
      for (size_t i = 0; i < changes.size(); ++i) {
        error += double{changes[i]} * changes[i] * search_.inputs[i % at(columns_)];
      }
      return error;
    }
    std::vector<float> products(changes.size());
    const auto n = static_cast<int>(columns_);
    const auto rows = static_cast<int>(std::ssize(changes) / columns_);
    const BlasCall call;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, rows, n, n, 1.0f, changes.data(), n,
                search_.gram.data(), n, 0.0f, products.data(), n);
    for (size_t i = 0; i < changes.size(); ++i) error += double{changes[i]} * products[i];
    return error;
  }

  const ScaleSearch& search_;
  int64_t columns_;
  std::vector<double> inputs_, weights_;       ///< by scale
  std::vector<std::vector<float>> rows_ = {};  ///< of each reader, some
};

}  // namespace

std::vector<float> choose_scales(const ScaleSearch& search, ColumnScaling scaling,
                                 ThreadPool& pool) {
  check(scaling != ColumnScaling::kNone && !search.readers.empty());
  Choice choice(search);
  choice.gather();
  return scaling == ColumnScaling::kAwq ? choice.best_of_awq(pool) : choice.balanced();
}

}  // namespace fewbits
