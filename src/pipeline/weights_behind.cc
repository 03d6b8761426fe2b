#include "pipeline/weights_behind.h"

#include <span>

#include "base/error.h"
#include "engine/parallel.h"

namespace fewbits {
namespace {

constexpr int64_t kRowsPerTask = 16;
constexpr int kTurns = 4;  // rows and columns by turns

size_t at(int64_t i) {
  return static_cast<size_t>(i);
}

/// In GGUF's order of rows.
std::vector<float> values_of(const Weight& weight, const std::vector<int32_t>& order,
                             ThreadPool& pool) {
  std::vector<float> values(at(weight.values()));
  parallel_for(pool, weight.rows(), kRowsPerTask, [&](int64_t i) {
    weight.read_row(order.empty() ? i : int64_t{order[at(i)]},
                    values.data() + i * weight.columns());
  });
  weight.drop_pages();
  return values;
}

/// sum of a b over sum of b b; 1 where there is nothing to go by.
struct Fit {
  double product = 0, square = 0;

  void add(float a, float b) {
    product += double{a} * b;
    square += double{b} * b;
  }
  float scale() const {
    return square > 0 && product > 0 ? static_cast<float>(product / square) : 1.0f;
  }
};

void scale_rows(const std::vector<float>& wanted, int64_t columns, std::vector<float>& values,
                ThreadPool& pool) {
  parallel_for(pool, std::ssize(values) / columns, kRowsPerTask, [&](int64_t row) {
    Fit fit;
    for (int64_t i = row * columns; i < (row + 1) * columns; ++i) {
      fit.add(wanted[at(i)], values[at(i)]);
    }
    for (int64_t i = row * columns; i < (row + 1) * columns; ++i) values[at(i)] *= fit.scale();
  });
}

void scale_columns(const std::vector<float>& wanted, int64_t columns, std::vector<float>& values) {
  std::vector<Fit> fits(at(columns));
  for (size_t i = 0; i < values.size(); ++i) fits[i % fits.size()].add(wanted[i], values[i]);
  std::vector<float> scales;
  for (const Fit& fit : fits) scales.push_back(fit.scale());
  for (size_t i = 0; i < values.size(); ++i) values[i] *= scales[i % scales.size()];
}

}  // namespace

std::vector<float> weights_behind(const Weight& quantized, const Weight& original,
                                  ThreadPool& pool) {
  check(quantized.shape == original.shape);
  const std::vector<float> wanted = values_of(quantized, quantized.gguf_rows, pool);
  std::vector<float> values = values_of(original, quantized.gguf_rows, pool);
  for (int turn = 0; turn < kTurns; ++turn) {
    scale_columns(wanted, quantized.columns(), values);
    scale_rows(wanted, quantized.columns(), values, pool);
  }
  return values;
}

}  // namespace fewbits
