#include "methods/hessian.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "base/error.h"
#include "calibrate/blas.h"
#include "methods/tiled_triangle.h"

namespace fewbits {
namespace {

constexpr double kMostDamping = 100;

std::vector<float> prepared(std::vector<float> matrix, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += matrix[static_cast<size_t>(i * n + i)];
  if (!std::isfinite(sum)) throw Error("calibration: the inputs of a layer are not finite");
  const auto mean = static_cast<float>(sum > 0 ? sum / static_cast<double>(n) : 1);
  for (int64_t i = 0; i < n; ++i) {
    float& diagonal = matrix[static_cast<size_t>(i * n + i)];
    if (diagonal <= 0) diagonal = mean;
  }
  return matrix;
}

/// Returns what is kept of what is off the diagonal.
double shrink(std::vector<float>& matrix, int64_t n, int64_t tokens) {
  if (tokens == 0) return 1;
  const double kept = static_cast<double>(tokens) / (static_cast<double>(tokens) + kPriorTokens);
  for (int64_t i = 0; i < n; ++i) {
    float* row = matrix.data() + i * n;
    const float diagonal = row[i];
    for (int64_t j = 0; j < n; ++j) row[j] *= static_cast<float>(kept);
    row[i] = diagonal;
  }
  return kept;
}

std::vector<int32_t> processing_order(const std::vector<float>& matrix, int64_t n,
                                      bool descending) {
  std::vector<int32_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  if (descending) {
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
      return matrix[static_cast<size_t>(a * n + a)] > matrix[static_cast<size_t>(b * n + b)];
    });
  }
  return order;
}

/// U with (H + shift I)^-1 = U^T U, in `order`; empty where H is not positive definite.
///
/// Cholesky of H with its indices reversed is L L^T; reversed back, H = R R^T with R upper
/// triangular, so H^-1 = (R^-1)^T R^-1 and U = R^-1: one factorization and one triangular inverse.
std::vector<float> inverse_factor(const std::vector<float>& matrix,
                                  const std::vector<int32_t>& order, double shift,
                                  ThreadPool& pool) {
  const auto n = static_cast<int64_t>(order.size());
  const auto reversed = [&](int64_t i) { return int64_t{order[static_cast<size_t>(n - 1 - i)]}; };
  TiledTriangle lower(n);
  pool.run(n, [&](int64_t i, int) {
    const float* row = matrix.data() + reversed(i) * n;
    for (int64_t j = 0; j <= i;) {
      for (double& element : lower.run(i, j)) element = row[reversed(j++)];
    }
    lower.at(i, i) += shift;
  });
  if (!lower.factor(pool)) return {};
  lower.invert(pool);
  std::vector<float> update(static_cast<size_t>(n * n), 0.0f);
  pool.run(n, [&](int64_t i, int) {
    float* end = update.data() + (n - i) * n;  // of the row that is i in the reversed order
    for (int64_t j = 0; j <= i;) {
      for (const double element : lower.run(i, j)) end[-1 - j++] = static_cast<float>(element);
    }
  });
  return update;
}

}  // namespace

Hessian factor_hessian(std::vector<float> gram, int64_t columns, ThreadPool& pool,
                       const HessianOptions& options) {
  check(static_cast<int64_t>(gram.size()) == columns * columns);
  Hessian hessian;
  hessian.columns = columns;
  hessian.matrix = prepared(std::move(gram), columns);
  hessian.kept = shrink(hessian.matrix, columns, options.tokens);
  hessian.order = processing_order(hessian.matrix, columns, options.descending);
  double mean = 0;
  for (int64_t i = 0; i < columns; ++i) mean += hessian.diagonal(i) / static_cast<double>(columns);
  for (double damping = options.damping; hessian.update.empty(); damping *= 10) {
    if (damping > kMostDamping)
      throw Error("calibration: the inputs of a layer have no usable second moments");
    hessian.update = inverse_factor(hessian.matrix, hessian.order, damping * mean, pool);
    hessian.damping = damping;
  }
  for (int64_t i = 0; i < columns; ++i) {
    hessian.matrix[static_cast<size_t>(i * columns + i)] +=
        static_cast<float>(hessian.damping * mean);
  }
  return hessian;
}

int64_t hessian_bytes(int64_t columns) {
  // H and U as floats.
  constexpr int64_t kBytes = 2 * sizeof(float);
  return kBytes * columns * columns + TiledTriangle::memory(columns);
}

std::vector<float> diagonal_of(const Hessian& hessian) {
  std::vector<float> diagonal;
  for (int64_t j = 0; j < hessian.columns; ++j) diagonal.push_back(hessian.diagonal(j));
  return diagonal;
}

void multiply_by_inverse(const Hessian& hessian, std::vector<float>& rows) {
  const int64_t n = hessian.columns, count = std::ssize(rows) / n;
  std::vector<float> ordered(rows.size());
  const auto original = [&](int64_t row, int64_t j) -> float& {
    return rows[static_cast<size_t>(row * n + hessian.order[static_cast<size_t>(j)])];
  };
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t j = 0; j < n; ++j) ordered[static_cast<size_t>(i * n + j)] = original(i, j);
  }
  const int size = static_cast<int>(n);
  const BlasCall call;
  for (const CBLAS_TRANSPOSE side : {CblasTrans, CblasNoTrans}) {  // U^T, then U
    cblas_strmm(CblasRowMajor, CblasRight, CblasUpper, side, CblasNonUnit, static_cast<int>(count),
                size, 1.0f, hessian.update.data(), size, ordered.data(), size);
  }
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t j = 0; j < n; ++j) original(i, j) = ordered[static_cast<size_t>(i * n + j)];
  }
}

}  // namespace fewbits
