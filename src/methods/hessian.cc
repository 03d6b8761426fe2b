#include "methods/hessian.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "calibrate/blas.h"

// LAPACK, column-major, 32-bit integers: Cholesky factor and inverse of a triangle.
extern "C" {
void dpotrf_(const char* triangle, const int* n, double* a, const int* stride, int* info);
void dtrtri_(const char* triangle, const char* unit, const int* n, double* a, const int* stride,
             int* info);
}

namespace fewbits {
namespace {

constexpr double kMostDamping = 100;

std::vector<float> prepared(std::span<const float> gram, int64_t n) {
  std::vector<float> matrix(gram.begin(), gram.end());
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
                                  const std::vector<int32_t>& order, double shift) {
  const auto n = static_cast<int64_t>(order.size());
  const auto reversed = [&](int64_t i) { return int64_t{order[static_cast<size_t>(n - 1 - i)]}; };
  std::vector<double> a(static_cast<size_t>(n * n));
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      a[static_cast<size_t>(i * n + j)] =
          matrix[static_cast<size_t>(reversed(i) * n + reversed(j))];
    }
    a[static_cast<size_t>(i * n + i)] += shift;
  }
  const int size = static_cast<int>(n);
  int info = 0;
  const BlasCall call;
  dpotrf_("L", &size, a.data(), &size, &info);
  if (info == 0) dtrtri_("L", "N", &size, a.data(), &size, &info);
  if (info != 0) return {};
  std::vector<float> update(static_cast<size_t>(n * n), 0.0f);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = i; j < n;
         ++j) {  // element (row n-1-i, column n-1-j) of the lower factor, column-major
      update[static_cast<size_t>(i * n + j)] =
          static_cast<float>(a[static_cast<size_t>((n - 1 - j) * n + (n - 1 - i))]);
    }
  }
  return update;
}

}  // namespace

Hessian factor_hessian(std::span<const float> gram, int64_t columns,
                       const HessianOptions& options) {
  check(static_cast<int64_t>(gram.size()) == columns * columns);
  Hessian hessian;
  hessian.columns = columns;
  hessian.matrix = prepared(gram, columns);
  hessian.order = processing_order(hessian.matrix, columns, options.descending);
  double mean = 0;
  for (int64_t i = 0; i < columns; ++i) mean += hessian.diagonal(i) / static_cast<double>(columns);
  for (double damping = options.damping; hessian.update.empty(); damping *= 10) {
    if (damping > kMostDamping)
      throw Error("calibration: the inputs of a layer have no usable second moments");
    hessian.update = inverse_factor(hessian.matrix, hessian.order, damping * mean);
    hessian.damping = damping;
  }
  for (int64_t i = 0; i < columns; ++i) {
    hessian.matrix[static_cast<size_t>(i * columns + i)] +=
        static_cast<float>(hessian.damping * mean);
  }
  return hessian;
}

std::vector<float> inverse_of(const Hessian& hessian) {
  const int64_t n = hessian.columns;
  const int size = static_cast<int>(n);
  std::vector<float> ordered(static_cast<size_t>(n * n)), result(ordered.size());
  const BlasCall call;
  cblas_ssyrk(CblasRowMajor, CblasUpper, CblasTrans, size, size, 1.0f, hessian.update.data(), size,
              0.0f, ordered.data(), size);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = i; j < n; ++j) {
      const int64_t a = hessian.order[static_cast<size_t>(i)];
      const int64_t b = hessian.order[static_cast<size_t>(j)];
      const float value = ordered[static_cast<size_t>(i * n + j)];
      result[static_cast<size_t>(a * n + b)] = result[static_cast<size_t>(b * n + a)] = value;
    }
  }
  return result;
}

}  // namespace fewbits
