#include "calibrate/gram.h"

#include <algorithm>
#include <utility>

#include "base/checked_math.h"
#include "base/error.h"
#include "calibrate/blas.h"

namespace fewbits {
namespace {

// One task: a square of the result. The larger it is, the less a product is held up by its factors
// being copied first; ten at least give all threads something to do.
int64_t tile_for(int64_t columns) {
  return std::clamp(round_up(divide_up(columns, 4), 64), int64_t{192}, int64_t{1024});
}

constexpr int64_t kTile = 192;  // of what is not symmetric

}  // namespace

GramAccumulator::GramAccumulator(int64_t columns)
    : columns_(columns), sum_(static_cast<size_t>(columns * columns), 0.0f) {}

void GramAccumulator::add(const float* inputs, int64_t tokens, ThreadPool& pool) {
  const int64_t tile = tile_for(columns_), tiles = divide_up(columns_, tile);
  std::vector<std::pair<int64_t, int64_t>> upper;
  for (int64_t i = 0; i < tiles; ++i) {
    for (int64_t j = i; j < tiles; ++j) upper.emplace_back(i * tile, j * tile);
  }
  const int stride = static_cast<int>(columns_), count = static_cast<int>(tokens);
  pool.run(std::ssize(upper), [&](int64_t task, int) {
    const auto [i, j] = upper[static_cast<size_t>(task)];
    const int rows = static_cast<int>(std::min(tile, columns_ - i));
    const int columns = static_cast<int>(std::min(tile, columns_ - j));
    float* out = sum_.data() + i * columns_ + j;
    const BlasCall call;
    if (i == j) {
      cblas_ssyrk(CblasRowMajor, CblasUpper, CblasTrans, rows, count, 1.0f, inputs + i, stride,
                  1.0f, out, stride);
    } else {
      cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, rows, columns, count, 1.0f, inputs + i,
                  stride, inputs + j, stride, 1.0f, out, stride);
    }
  });
  tokens_ += tokens;
}

std::vector<float> GramAccumulator::mean() const {
  return GramAccumulator(*this).take_mean();
}

std::vector<float> GramAccumulator::take_mean() {
  check(tokens_ > 0);
  const float share = 1.0f / static_cast<float>(tokens_);
  for (int64_t i = 0; i < columns_; ++i) {
    for (int64_t j = i; j < columns_; ++j) {
      float& value = sum_[static_cast<size_t>(i * columns_ + j)];
      value *= share;
      sum_[static_cast<size_t>(j * columns_ + i)] = value;
    }
  }
  return std::move(sum_);
}

CrossAccumulator::CrossAccumulator(int64_t rows, int64_t columns)
    : rows_(rows), columns_(columns), sum_(static_cast<size_t>(rows * columns), 0.0f) {}

void CrossAccumulator::add(const float* y, const float* x, int64_t tokens, ThreadPool& pool) {
  const int64_t down = divide_up(rows_, kTile), across = divide_up(columns_, kTile);
  pool.run(down * across, [&](int64_t task, int) {
    const int64_t i = task / across * kTile, j = task % across * kTile;
    const BlasCall call;
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans,
                static_cast<int>(std::min(kTile, rows_ - i)),
                static_cast<int>(std::min(kTile, columns_ - j)), static_cast<int>(tokens), 1.0f,
                y + i, static_cast<int>(rows_), x + j, static_cast<int>(columns_), 1.0f,
                sum_.data() + i * columns_ + j, static_cast<int>(columns_));
  });
  tokens_ += tokens;
}

std::vector<float> CrossAccumulator::take_mean() {
  check(tokens_ > 0);
  for (float& value : sum_) value /= static_cast<float>(tokens_);
  return std::move(sum_);
}

}  // namespace fewbits
