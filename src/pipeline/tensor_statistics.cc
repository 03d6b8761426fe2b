#include "pipeline/tensor_statistics.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/checked_math.h"
#include "base/error.h"
#include "base/interrupt.h"

namespace fewbits {
namespace {

constexpr int64_t kTaskValues = int64_t{1} << 16;

struct Sums {
  double minimum = std::numeric_limits<double>::infinity();
  double maximum = -std::numeric_limits<double>::infinity();
  double square = 0;
  double reference_square = 0;
  double error = 0;
  int64_t outliers = 0;

  void add(const Sums& other) {
    minimum = std::min(minimum, other.minimum);
    maximum = std::max(maximum, other.maximum);
    square += other.square;
    reference_square += other.reference_square;
    error += other.error;
    outliers += other.outliers;
  }
};

/// Adds up what `visit(row values, index, sums)` finds in every row, in a fixed order.
template <class Visit>
Sums over_rows(const Weight& weight, ThreadPool& pool, const Visit& visit) {
  const int64_t rows_per_task = std::max<int64_t>(1, kTaskValues / weight.columns());
  std::vector<Sums> parts(static_cast<size_t>(divide_up(weight.rows(), rows_per_task)));
  pool.run(static_cast<int64_t>(parts.size()), [&](int64_t task, int) {
    if (interrupted()) return;
    std::vector<float> values(static_cast<size_t>(weight.columns()));
    const int64_t end = std::min(weight.rows(), (task + 1) * rows_per_task);
    for (int64_t row = task * rows_per_task; row < end; ++row) {
      weight.read_row(row, values.data());
      visit(values, row, parts[static_cast<size_t>(task)]);
    }
  });
  throw_if_interrupted();
  Sums total;
  for (const Sums& part : parts) total.add(part);
  return total;
}

void compare_row(const std::vector<float>& values, const Weight& against, int64_t row, Sums& sums) {
  std::vector<float> reference(values.size());
  against.read_row(row, reference.data());
  for (size_t i = 0; i < values.size(); ++i) {
    const double difference = double{values[i]} - reference[i];
    sums.error += difference * difference;
    sums.reference_square += double{reference[i]} * reference[i];
  }
}

Sums first_pass(const Weight& weight, const Weight* against, ThreadPool& pool) {
  return over_rows(weight, pool, [&](const std::vector<float>& values, int64_t row, Sums& sums) {
    for (const float value : values) {
      sums.minimum = std::min(sums.minimum, double{value});
      sums.maximum = std::max(sums.maximum, double{value});
      sums.square += double{value} * value;
    }
    if (against != nullptr) compare_row(values, *against, row, sums);
  });
}

int64_t count_outliers(const Weight& weight, double rms, ThreadPool& pool) {
  const auto limit = static_cast<float>(kOutlierRms * rms);
  return over_rows(weight, pool,
                   [&](const std::vector<float>& values, int64_t, Sums& sums) {
                     sums.outliers += std::count_if(values.begin(), values.end(), [&](float value) {
                       return std::abs(value) > limit;
                     });
                   })
      .outliers;
}

}  // namespace

TensorStatistics tensor_statistics(const Weight& weight, const Weight* against, ThreadPool& pool) {
  if (against != nullptr && against->shape != weight.shape) {
    throw Error(fmt::format("{}: its shape differs between the two models", weight.gguf_name));
  }
  const Sums sums = first_pass(weight, against, pool);
  const auto values = static_cast<double>(weight.values());
  TensorStatistics result{.minimum = sums.minimum,
                          .maximum = sums.maximum,
                          .rms = std::sqrt(sums.square / values),
                          .outlier_share = 0,
                          .relative_error = std::nullopt};
  result.outlier_share = static_cast<double>(count_outliers(weight, result.rms, pool)) / values;
  if (against != nullptr) {
    result.relative_error = sums.reference_square > 0 ? sums.error / sums.reference_square : 0;
    against->drop_pages();
  }
  weight.drop_pages();
  return result;
}

}  // namespace fewbits
