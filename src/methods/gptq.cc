#include "methods/gptq.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <vector>

#include "base/error.h"
#include "calibrate/blas.h"

namespace fewbits {
namespace {

constexpr int64_t kRowsAtOnce =
    32;  // enough for the matrix products to run at speed, small enough for the cache
constexpr int64_t kColumnsPerBlock =
    128;  // the lazy update of GPTQ: one product for the columns behind each block
constexpr float kSmallestMove = 1e-3f;    // of a grid step: smaller gains are rounding noise
constexpr double kLeastCurvature = 1e-3;  // of the terms it is summed from
constexpr double kMostRefit = 0.5;        // of a scale, in one pass

size_t at(int64_t i) {
  return static_cast<size_t>(i);
}

int int_of(int64_t i) {
  return static_cast<int>(i);
}

/// A few rows on their way from weights to codes. All arrays are [rows][columns] in original column
/// order.
class RowBatch {
 public:
  RowBatch(const GptqProblem& problem, const float* weights, int64_t rows)
      : format_(problem.format),
        hessian_(problem.hessian),
        outer_(problem.outer),
        weights_(weights),
        rows_(rows),
        columns_(hessian_.columns),
        blocks_(columns_ / format_.block_values),
        parameters_(at(rows * blocks_)),
        grids_(at(rows * columns_ / format_.sub_block_values)),
        codes_(at(rows * columns_)),
        values_(at(rows * columns_)) {
    fit_parameters();
  }

  void round_in_order();
  void start_descent();
  bool descend();
  void refit_scales();
  double error();
  void pack(std::byte* out) const;

 private:
  void fit_parameters();
  Grid& grid(int64_t row, int64_t column) {
    return grids_[at((row * columns_ + column) / format_.sub_block_values)];
  }
  void set_code(int64_t row, int64_t column, float wanted);
  void round_columns(int64_t begin, int64_t end, std::vector<float>& open,
                     std::vector<float>& lost);
  int64_t descend_row(int64_t row);
  struct SubBlock {
    const float *levels, *products, *ones, *gradient;
    int64_t size;
  };
  void multiply(const float* left, int64_t count, const float* h, float* out) const;
  void wanted_grids(int64_t block);
  bool has_offset(int64_t row, int64_t block);
  static void improve_grid(const SubBlock& block, bool offset, Grid& wanted);
  void try_grids(int64_t row, int64_t block, float* step);
  void accept_grids(int64_t row, int64_t block, float* step, const float* product);
  const float* hessian_row(int64_t column) const {
    return hessian_.matrix.data() + column * columns_;
  }

  const Format& format_;
  const Hessian& hessian_;
  const Outer* outer_;
  const float* weights_;
  int64_t rows_, columns_, blocks_;
  std::vector<BlockParameters> parameters_;
  std::vector<Grid> grids_;
  std::vector<uint8_t> codes_;
  std::vector<float> values_;    ///< of the codes
  std::vector<Grid> wanted_;     ///< of one block: [rows][sub-blocks]
  std::vector<float> gradient_;  ///< (q - w) H, kept up to date through the descent
};

void RowBatch::fit_parameters() {
  std::vector<float> importance(at(columns_));
  for (int64_t j = 0; j < columns_; ++j) importance[at(j)] = hessian_.diagonal(j);
  for (int64_t row = 0; row < rows_; ++row) {
    const Outer outer =
        outer_of_row(format_, weights_ + row * columns_, importance.data(), columns_, outer_);
    BlockParameters* parameters = &parameters_[at(row * blocks_)];
    for (int64_t block = 0; block < blocks_; ++block) parameters[block].outer = outer;
    format_.fit_blocks(weights_ + row * columns_, importance.data(), blocks_, parameters);
    for (int64_t block = 0; block < blocks_; ++block) {
      format_.grids(parameters[block], &grid(row, block * format_.block_values));
    }
  }
}

void RowBatch::set_code(int64_t row, int64_t column, float wanted) {
  const Grid g = grid(row, column);
  const float level = g.scale == 0 ? 0.0f : (wanted - g.offset) / g.scale;
  const uint8_t code = nearest_code(format_, level);
  codes_[at(row * columns_ + column)] = code;
  values_[at(row * columns_ + column)] = g.scale * format_.levels[code] + g.offset;
}

void RowBatch::round_in_order() {
  std::vector<float> open(
      at(rows_ * columns_));  // weights in processing order, moved by what came before
  for (int64_t row = 0; row < rows_; ++row) {
    for (int64_t i = 0; i < columns_; ++i) {
      open[at(row * columns_ + i)] = weights_[row * columns_ + hessian_.order[at(i)]];
    }
  }
  std::vector<float> lost(at(rows_ * kColumnsPerBlock));
  for (int64_t begin = 0; begin < columns_; begin += kColumnsPerBlock) {
    const int64_t end = std::min(begin + kColumnsPerBlock, columns_);
    round_columns(begin, end, open, lost);
    if (end == columns_) break;
    const BlasCall call;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, int_of(rows_), int_of(columns_ - end),
                int_of(end - begin), -1.0f, lost.data(), int_of(kColumnsPerBlock),
                hessian_.update.data() + begin * columns_ + end, int_of(columns_), 1.0f,
                open.data() + end, int_of(columns_));
  }
}

/// Rounds columns [begin, end) of the processing order; `lost` receives (w - q) / U_ii of each.
void RowBatch::round_columns(int64_t begin, int64_t end, std::vector<float>& open,
                             std::vector<float>& lost) {
  for (int64_t i = begin; i < end; ++i) {
    const float* update = hessian_.update.data() + i * columns_;
    const int64_t column = hessian_.order[at(i)];
    for (int64_t row = 0; row < rows_; ++row) {
      const float weight = open[at(row * columns_ + i)];
      set_code(row, column, weight);
      lost[at(row * kColumnsPerBlock + i - begin)] =
          (weight - values_[at(row * columns_ + column)]) / update[i];
    }
    if (i + 1 == end) break;
    const BlasCall call;
    cblas_sger(CblasRowMajor, int_of(rows_), int_of(end - i - 1), -1.0f, lost.data() + (i - begin),
               int_of(kColumnsPerBlock), update + i + 1, 1, open.data() + i + 1, int_of(columns_));
  }
}

void RowBatch::start_descent() {
  gradient_.resize(values_.size());
  std::vector<float> difference(values_.size());
  for (size_t i = 0; i < values_.size(); ++i) difference[i] = values_[i] - weights_[i];
  const BlasCall call;
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, int_of(rows_), int_of(columns_),
              int_of(columns_), 1.0f, difference.data(), int_of(columns_), hessian_.matrix.data(),
              int_of(columns_), 0.0f, gradient_.data(), int_of(columns_));
}

/// One pass over all codes; false when none moved.
bool RowBatch::descend() {
  int64_t moves = 0;
  for (int64_t row = 0; row < rows_; ++row) moves += descend_row(row);
  return moves > 0;
}

int64_t RowBatch::descend_row(int64_t row) {
  int64_t moves = 0;
  float* gradient = gradient_.data() + row * columns_;
  for (const int32_t column : hessian_.order) {
    const float old_value = values_[at(row * columns_ + column)];
    const uint8_t old_code = codes_[at(row * columns_ + column)];
    set_code(row, column, old_value - gradient[column] / hessian_.diagonal(column));
    if (codes_[at(row * columns_ + column)] == old_code) continue;
    const float step = values_[at(row * columns_ + column)] - old_value;
    const float gain = -step * (2 * gradient[column] + step * hessian_.diagonal(column));
    if (gain <= kSmallestMove * step * step * hessian_.diagonal(column)) {
      codes_[at(row * columns_ + column)] = old_code;
      values_[at(row * columns_ + column)] = old_value;
      continue;
    }
    cblas_saxpy(int_of(columns_), step, hessian_row(column), 1, gradient, 1);
    ++moves;
  }
  return moves;
}

/// Moves every block to better parameters where they, as they can be stored, lower the error. All
/// rows of a block together, so that what they change in the gradient is one product.
void RowBatch::refit_scales() {
  const int64_t size = format_.block_values;
  std::vector<float> steps(at(rows_ * size)), products(steps.size());
  for (int64_t block = 0; block < blocks_; ++block) {
    wanted_grids(block);
    for (int64_t row = 0; row < rows_; ++row) try_grids(row, block, steps.data() + row * size);
    const float* h = hessian_row(block * size);
    multiply(steps.data(), size, h + block * size, products.data());
    for (int64_t row = 0; row < rows_; ++row) {
      accept_grids(row, block, steps.data() + row * size, products.data() + row * size);
    }
    const BlasCall call;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, int_of(rows_), int_of(columns_),
                int_of(size), 1.0f, steps.data(), int_of(size), h, int_of(columns_), 1.0f,
                gradient_.data(), int_of(columns_));
  }
}

/// out [rows][count] = left [rows][count] * the square of H that begins at `h`.
void RowBatch::multiply(const float* left, int64_t count, const float* h, float* out) const {
  const BlasCall call;
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, int_of(rows_), int_of(count),
              int_of(count), 1.0f, left, int_of(count), h, int_of(columns_), 0.0f, out,
              int_of(count));
}

/// The grids that would be best for the codes as they are, each sub-block by itself, into wanted_.
void RowBatch::wanted_grids(int64_t block) {
  const int64_t size = format_.sub_block_values, sub_blocks = format_.sub_blocks();
  wanted_.resize(at(rows_ * sub_blocks));
  std::vector<float> levels(at(rows_ * size)), products(levels.size()), ones(at(size));
  for (int64_t s = 0; s < sub_blocks; ++s) {
    const int64_t column = block * format_.block_values + s * size;
    const float* h = hessian_row(column) + column;
    for (int64_t i = 0; i < size; ++i) {
      ones[at(i)] = std::accumulate(h + i * columns_, h + i * columns_ + size, 0.0f);
      for (int64_t row = 0; row < rows_; ++row) {
        const uint8_t code = codes_[at(row * columns_ + column + i)];
        levels[at(row * size + i)] = static_cast<float>(format_.levels[code]);
      }
    }
    multiply(levels.data(), size, h, products.data());
    for (int64_t row = 0; row < rows_; ++row) {
      Grid& wanted = wanted_[at(row * sub_blocks + s)];
      wanted = grid(row, column);
      improve_grid({levels.data() + row * size, products.data() + row * size, ones.data(),
                    gradient_.data() + row * columns_ + column, size},
                   has_offset(row, block), wanted);
    }
  }
}

bool RowBatch::has_offset(int64_t row, int64_t block) {
  const Grid* grids = &grid(row, block * format_.block_values);
  return std::any_of(grids, grids + format_.sub_blocks(), [](Grid g) { return g.offset != 0; });
}

/// Least squares for scale and offset of one sub-block, within bounds: where the inputs of a
/// sub-block hardly vary apart from each other, sums in float cannot tell how far a step is right.
void RowBatch::improve_grid(const SubBlock& block, bool offset, Grid& wanted) {
  double vhv = 0, vh1 = 0, ohv1 = 0, vg = 0, og = 0;  // v: levels, 1: ones, g: gradient
  double magnitude = 0;                               // of the terms of vhv
  for (int64_t i = 0; i < block.size; ++i) {
    const double level = block.levels[i];
    vhv += level * block.products[i];
    magnitude += std::abs(level * block.products[i]);
    vh1 += level * block.ones[i];
    ohv1 += block.ones[i];
    vg += level * block.gradient[i];
    og += block.gradient[i];
  }
  if (!(vhv > kLeastCurvature * magnitude)) return;
  double scale_step = -vg / vhv, offset_step = 0;
  const double determinant = vhv * ohv1 - vh1 * vh1;
  if (offset && determinant > kLeastCurvature * vhv * ohv1) {
    scale_step = (-vg * ohv1 + og * vh1) / determinant;
    offset_step = (-og * vhv + vg * vh1) / determinant;
  }
  const double most = kMostRefit * std::abs(double{wanted.scale});
  wanted.scale += static_cast<float>(std::clamp(scale_step, -most, most));
  wanted.offset += static_cast<float>(std::clamp(offset_step, -most, most));
}

/// What would change with the wanted grids as they can be stored: `step` [block_values].
void RowBatch::try_grids(int64_t row, int64_t block, float* step) {
  const int64_t first = block * format_.block_values, size = format_.sub_block_values;
  BlockParameters parameters = parameters_[at(row * blocks_ + block)];
  std::array<Grid, kMaxSubBlocks> snapped;
  format_.snap(&wanted_[at(row * format_.sub_blocks())], parameters);
  format_.grids(parameters, snapped.data());
  const uint8_t* codes = codes_.data() + row * columns_ + first;
  for (int64_t i = 0; i < format_.block_values; ++i) {
    const Grid g = snapped[at(i / size)];
    step[i] =
        g.scale * format_.levels[codes[i]] + g.offset - values_[at(row * columns_ + first + i)];
  }
}

/// Takes the step where it lowers the error; clears it where not. `product` is step * H.
void RowBatch::accept_grids(int64_t row, int64_t block, float* step, const float* product) {
  const int64_t first = block * format_.block_values;
  const float* gradient = gradient_.data() + row * columns_ + first;
  double change = 0;
  for (int64_t i = 0; i < format_.block_values; ++i) {
    change += double{step[i]} * (2.0 * gradient[i] + product[i]);
  }
  if (!(change < 0)) {
    std::fill_n(step, format_.block_values, 0.0f);
    return;
  }
  BlockParameters& parameters = parameters_[at(row * blocks_ + block)];
  format_.snap(&wanted_[at(row * format_.sub_blocks())], parameters);
  format_.grids(parameters, &grid(row, first));
  for (int64_t i = 0; i < format_.block_values; ++i) {
    values_[at(row * columns_ + first + i)] += step[i];
  }
}

/// The gradient is kept up to date, so the error costs one pass over it and no product.
double RowBatch::error() {
  double sum = 0;
  for (size_t i = 0; i < values_.size(); ++i) {
    sum += (double{values_[i]} - weights_[i]) * gradient_[i];
  }
  return sum;
}

void RowBatch::pack(std::byte* out) const {
  for (int64_t row = 0; row < rows_; ++row, out += row_bytes(format_, columns_)) {
    pack_row(format_, &parameters_[at(row * blocks_)], codes_.data() + row * columns_, columns_,
             out);
  }
}

}  // namespace

double gptq(const GptqProblem& problem, const float* weights, int64_t rows, std::byte* out) {
  const auto& [format, hessian, options, outer] = problem;
  check(format.has_levels() && hessian.columns % format.block_values == 0);
  double error = 0;
  for (int64_t row = 0; row < rows; row += kRowsAtOnce) {
    const int64_t count = std::min(kRowsAtOnce, rows - row);
    RowBatch batch(problem, weights + row * hessian.columns, count);
    batch.round_in_order();
    batch.start_descent();
    for (int pass = 0; pass < options.descent_passes; ++pass) {
      batch.refit_scales();
      if (!batch.descend()) break;
    }
    error += batch.error();
    batch.pack(out + row * row_bytes(format, hessian.columns));
  }
  return error;
}

void round_rows(const GptqProblem& problem, const float* weights, int64_t rows, std::byte* out) {
  const auto& [format, hessian, options, outer] = problem;
  if (format.has_levels()) {
    gptq(problem, weights, rows, out);
    return;
  }
  std::vector<float> importance(at(hessian.columns));
  for (int64_t j = 0; j < hessian.columns; ++j) importance[at(j)] = hessian.diagonal(j);
  encode_rows(format, weights, rows, hessian.columns, importance.data(), Search::kBest, out);
}

}  // namespace fewbits
