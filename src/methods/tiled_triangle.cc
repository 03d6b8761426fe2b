#include "methods/tiled_triangle.h"

#include <algorithm>
#include <utility>

#include "base/checked_math.h"
#include "calibrate/blas.h"

// LAPACK, 32-bit integers: Cholesky factor and inverse of a triangle. It counts along columns, so
// what is lower here is upper there.
extern "C" {
void dpotrf_(const char* triangle, const int* n, double* a, const int* stride, int* info);
void dtrtri_(const char* triangle, const char* unit, const int* n, double* a, const int* stride,
             int* info);
}

namespace fewbits {
namespace {

// Enough tiles for every thread, each large enough for its products to run at speed.
int64_t side_for(int64_t size) {
  return std::clamp(round_up(size / 12, 32), int64_t{32}, int64_t{256});
}

}  // namespace

TiledTriangle::TiledTriangle(int64_t size)
    : size_(size), side_(side_for(size)), tiles_(divide_up(size, side_)) {
  values_.resize(static_cast<size_t>(tiles_ * (tiles_ + 1) / 2 * area()));
}

int64_t TiledTriangle::memory(int64_t size) {
  const int64_t side = side_for(size), tiles = divide_up(size, side);
  // Besides the triangle, a column of tiles while it is inverted.
  return (tiles * (tiles + 1) / 2 + tiles) * side * side * static_cast<int64_t>(sizeof(double));
}

size_t TiledTriangle::index(int64_t row, int64_t column) const {
  const int64_t i = row / side_, j = column / side_;
  return static_cast<size_t>((i * (i + 1) / 2 + j) * area() + row % side_ * side_ + column % side_);
}

std::span<double> TiledTriangle::run(int64_t row, int64_t column) {
  const int64_t count = std::min(side_ - column % side_, row + 1 - column);
  return std::span(values_).subspan(index(row, column), static_cast<size_t>(count));
}

bool TiledTriangle::factor(ThreadPool& pool) {
  // What lies beyond the matrix is that of the unit matrix, which disturbs nothing.
  for (int64_t i = size_; i < tiles_ * side_; ++i) at(i, i) = 1;
  for (int64_t k = 0; k < tiles_; ++k) {
    if (!factor_tile(k)) return false;
    const int64_t below = tiles_ - k - 1;
    pool.run(below, [&](int64_t task, int) { divide_by_tile(k + 1 + task, k); });
    std::vector<std::pair<int64_t, int64_t>> rest;
    for (int64_t i = k + 1; i < tiles_; ++i) {
      for (int64_t j = k + 1; j <= i; ++j) rest.emplace_back(i, j);
    }
    pool.run(std::ssize(rest), [&](int64_t task, int) {
      const auto [i, j] = rest[static_cast<size_t>(task)];
      subtract_product(i, j, k);
    });
  }
  return true;
}

bool TiledTriangle::factor_tile(int64_t k) {
  const int side = static_cast<int>(side_);
  int info = 0;
  const BlasCall call;
  dpotrf_("U", &side, tile(k, k), &side, &info);
  if (info != 0) return false;
  for (int64_t row = 0; row < side_; ++row) {  // LAPACK leaves there what was
    std::fill_n(tile(k, k) + row * side_ + row + 1, side_ - row - 1, 0.0);
  }
  return true;
}

/// L_ik = A_ik L_kk^-T
void TiledTriangle::divide_by_tile(int64_t i, int64_t k) {
  const int side = static_cast<int>(side_);
  const BlasCall call;
  cblas_dtrsm(CblasRowMajor, CblasRight, CblasLower, CblasTrans, CblasNonUnit, side, side, 1.0,
              tile(k, k), side, tile(i, k), side);
}

/// A_ij -= L_ik L_jk^T
void TiledTriangle::subtract_product(int64_t i, int64_t j, int64_t k) {
  const int side = static_cast<int>(side_);
  const BlasCall call;
  if (i == j) {
    cblas_dsyrk(CblasRowMajor, CblasLower, CblasNoTrans, side, side, -1.0, tile(i, k), side, 1.0,
                tile(i, i), side);
  } else {
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, side, side, side, -1.0, tile(i, k), side,
                tile(j, k), side, 1.0, tile(i, j), side);
  }
}

/// Column after column, the last first: X_ij = -(sum over k in (j, i] of X_ik L_kj) X_jj.
void TiledTriangle::invert(ThreadPool& pool) {
  std::vector<double> sums(static_cast<size_t>(tiles_ * area()));
  for (int64_t j = tiles_ - 1; j >= 0; --j) {
    invert_tile(j);
    const int64_t below = tiles_ - j - 1;
    pool.run(below, [&](int64_t task, int) {
      const int64_t i = tiles_ - 1 - task;  // the longest sum first
      invert_column(i, j, sums.data() + i * area());
    });
    for (int64_t i = j + 1; i < tiles_; ++i) {
      std::copy_n(sums.data() + i * area(), area(), tile(i, j));
    }
  }
}

void TiledTriangle::invert_tile(int64_t j) {
  const int side = static_cast<int>(side_);
  int info = 0;
  const BlasCall call;
  dtrtri_("U", "N", &side, tile(j, j), &side, &info);
}

/// X_ij, into `sum`. REQUIRES: X_jj and all X_ik with k > j are done.
void TiledTriangle::invert_column(int64_t i, int64_t j, double* sum) {
  const int side = static_cast<int>(side_);
  const BlasCall call;
  for (int64_t k = j + 1; k <= i; ++k) {
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, side, side, side, -1.0, tile(i, k), side,
                tile(k, j), side, k == j + 1 ? 0.0 : 1.0, sum, side);
  }
  cblas_dtrmm(CblasRowMajor, CblasRight, CblasLower, CblasNoTrans, CblasNonUnit, side, side, 1.0,
              tile(j, j), side, sum, side);
}

}  // namespace fewbits
