#include "methods/gptq.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "base/error.h"
#include "calibrate/blas.h"

namespace fewbits {
namespace {

// The lazy update of GPTQ: one product for the columns behind each block, which is itself halved
// until so few columns are left that they are updated one by one.
constexpr int64_t kColumnsPerBlock = 256;
constexpr int64_t kColumnsOneByOne = 16;
constexpr int64_t kColumnsPerRefit = 256;  // likewise, when scales are refitted
constexpr float kSmallestMove = 1e-3f;     // of a grid step: smaller gains are rounding noise
constexpr double kLeastCurvature = 1e-3;   // of the terms it is summed from
constexpr double kMostRefit = 0.5;         // of a scale, in one pass

size_t at(int64_t i) {
  return static_cast<size_t>(i);
}

int int_of(int64_t i) {
  return static_cast<int>(i);
}

/// A value on a level that is to move by less than this stays there.
float half_smallest_gap(const Format& format) {
  std::vector<float> levels(format.levels.begin(), format.levels.end());
  std::ranges::sort(levels);
  float least = std::numeric_limits<float>::max();
  for (size_t i = 1; i < levels.size(); ++i) {
    if (levels[i] > levels[i - 1]) least = std::min(least, levels[i] - levels[i - 1]);
  }
  return least / 2;
}

/// out [columns][out_stride] = in [rows][in_stride], in squares of which both sides stay in the
/// cache.
template <class Value>
void transpose_into(const Value* in, int64_t in_stride, int64_t rows, int64_t columns, Value* out,
                    int64_t out_stride) {
  constexpr int64_t kSide = 16;
  for (int64_t row = 0; row < rows; row += kSide) {
    const int64_t last_row = std::min(row + kSide, rows);
    for (int64_t column = 0; column < columns; column += kSide) {
      const int64_t last_column = std::min(column + kSide, columns);
      for (int64_t j = column; j < last_column; ++j) {
        for (int64_t i = row; i < last_row; ++i) out[j * out_stride + i] = in[i * in_stride + j];
      }
    }
  }
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
        grids_of_row_(columns_ / format_.sub_block_values),
        grid_of_(at(columns_)),
        grids_(at(rows * grids_of_row_)),
        codes_(at(rows * columns_)),
        values_(at(rows * columns_)),
        half_gap_(half_smallest_gap(format_)),
        diagonal_(diagonal_of(hessian_)) {
    for (int64_t j = 0; j < columns_; ++j) {
      grid_of_[at(j)] = static_cast<int32_t>(j / format_.sub_block_values);
    }
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
    return grids_[at(row * grids_of_row_ + grid_of_[at(column)])];
  }
  struct Coded {
    uint8_t code;
    float value;  ///< that it stands for
  };
  Coded nearest(Grid grid, float wanted) const;
  /// Some columns of the processing order, [columns][rows]: what is done to a column is done to all
  /// rows at once.
  struct Columns {
    int64_t begin = 0, end = 0;
    std::vector<float> open;  ///< weights, moved by what came before
    std::vector<float> lost;  ///< (w - q) / U_ii
    std::vector<float> values;
    std::vector<uint8_t> codes;

    Columns(int64_t rows, int64_t most)
        : open(at(rows * most)), lost(open.size()), values(open.size()), codes(open.size()) {}
  };
  std::vector<float> in_processing_order() const;
  void round_columns(int64_t first, int64_t count, Columns& columns);
  void round_one_by_one(int64_t first, int64_t count, Columns& columns);
  void round_column(int64_t column, const float* wanted, uint8_t* codes, float* values);
  void keep(const Columns& columns);
  void into_original_order();
  int64_t descend_row(int64_t row);
  struct SubBlock {
    const float *levels, *products, *ones, *gradient;
    int64_t size;
  };
  void multiply(const float* left, int64_t stride, int64_t count, const float* h, float* out) const;
  /// What is refitted before the rest of the gradient hears of it, [rows][columns].
  struct Panel {
    int64_t first, columns;       ///< of the weights
    std::vector<float> gradient;  ///< right for the blocks that are still to come
    std::vector<float> steps;     ///< of the values so far

    Panel(int64_t rows, int64_t first_column, int64_t count)
        : first(first_column), columns(count), gradient(at(rows * count)), steps(gradient.size()) {}
  };
  void refit_panel(Panel& panel);
  void refit_block(int64_t block, Panel& panel);
  void wanted_grids(int64_t block, const Panel& panel);
  bool has_offset(int64_t row, int64_t block);
  static void improve_grid(const SubBlock& block, bool offset, Grid& wanted);
  void try_grids(int64_t row, int64_t block, float* step);
  void accept_grids(int64_t row, int64_t block, const float* gradient, const float* product,
                    float* step);
  const float* hessian_row(int64_t column) const {
    return hessian_.matrix.data() + column * columns_;
  }

  const Format& format_;
  const Hessian& hessian_;
  const Outer* outer_;
  const float* weights_;
  int64_t rows_, columns_, blocks_;
  std::vector<BlockParameters> parameters_;
  int64_t grids_of_row_;
  std::vector<int32_t> grid_of_;  ///< by column, in its row: a division for each weight takes long
  std::vector<Grid> grids_;
  std::vector<uint8_t> codes_;
  std::vector<float> values_;    ///< of the codes
  std::vector<Grid> wanted_;     ///< of one block: [rows][sub-blocks]
  std::vector<float> gradient_;  ///< (q - w) H, kept up to date through the descent
  float half_gap_;               ///< between the levels that are nearest to each other
  std::vector<float> diagonal_;  ///< of H, which has each of them on another page
};

void RowBatch::fit_parameters() {
  for (int64_t row = 0; row < rows_; ++row) {
    const Outer outer =
        outer_of_row(format_, weights_ + row * columns_, diagonal_.data(), columns_, outer_);
    BlockParameters* parameters = &parameters_[at(row * blocks_)];
    for (int64_t block = 0; block < blocks_; ++block) parameters[block].outer = outer;
    format_.fit_blocks(weights_ + row * columns_, diagonal_.data(), blocks_, parameters);
    for (int64_t block = 0; block < blocks_; ++block) {
      format_.grids(parameters[block], &grid(row, block * format_.block_values));
    }
  }
}

RowBatch::Coded RowBatch::nearest(Grid grid, float wanted) const {
  const float level = grid.scale == 0 ? 0.0f : (wanted - grid.offset) / grid.scale;
  const uint8_t code = nearest_code(format_, level);
  return {code, grid.scale * format_.levels[code] + grid.offset};
}

std::vector<float> RowBatch::in_processing_order() const {
  std::vector<float> open(at(rows_ * columns_));
  for (int64_t row = 0; row < rows_; ++row) {
    for (int64_t i = 0; i < columns_; ++i) {
      open[at(row * columns_ + i)] = weights_[row * columns_ + hessian_.order[at(i)]];
    }
  }
  return open;
}

void RowBatch::round_in_order() {
  std::vector<float> open = in_processing_order();  // moved by what came before
  Columns columns(rows_, std::min(kColumnsPerBlock, columns_));
  for (int64_t begin = 0; begin < columns_; begin += kColumnsPerBlock) {
    const int64_t end = std::min(begin + kColumnsPerBlock, columns_);
    columns.begin = begin;
    columns.end = end;
    transpose_into(open.data() + begin, columns_, rows_, end - begin, columns.open.data(), rows_);
    round_columns(0, end - begin, columns);
    keep(columns);
    if (end == columns_) break;
    const BlasCall call;
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, int_of(rows_), int_of(columns_ - end),
                int_of(end - begin), -1.0f, columns.lost.data(), int_of(rows_),
                hessian_.update.data() + begin * columns_ + end, int_of(columns_), 1.0f,
                open.data() + end, int_of(columns_));
  }
  into_original_order();
}

/// `count` columns of the block from its column `first` on: a half, what that means for the other
/// half, and the other half.
void RowBatch::round_columns(int64_t first, int64_t count, Columns& columns) {
  if (count <= kColumnsOneByOne) return round_one_by_one(first, count, columns);
  const int64_t half = count / 2, middle = first + half, rest = count - half;
  round_columns(first, half, columns);
  const float* update =
      hessian_.update.data() + (columns.begin + first) * columns_ + columns.begin + middle;
  {
    const BlasCall call;
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, int_of(rest), int_of(rows_), int_of(half),
                -1.0f, update, int_of(columns_), columns.lost.data() + first * rows_, int_of(rows_),
                1.0f, columns.open.data() + middle * rows_, int_of(rows_));
  }
  round_columns(middle, rest, columns);
}

void RowBatch::round_one_by_one(int64_t first, int64_t count, Columns& columns) {
  for (int64_t j = first; j < first + count; ++j) {
    const int64_t i = columns.begin + j;
    const float* update = hessian_.update.data() + i * columns_;
    float* open = columns.open.data() + j * rows_;
    float* lost = columns.lost.data() + j * rows_;
    float* values = columns.values.data() + j * rows_;
    round_column(hessian_.order[at(i)], open, columns.codes.data() + j * rows_, values);
    for (int64_t row = 0; row < rows_; ++row) lost[row] = (open[row] - values[row]) / update[i];
    if (j + 1 == first + count) break;
    const BlasCall call;
    cblas_sger(CblasRowMajor, int_of(first + count - j - 1), int_of(rows_), -1.0f, update + i + 1,
               1, lost, 1, open + rows_, int_of(rows_));
  }
}

/// One column, `wanted` of all rows, to the nearest codes.
void RowBatch::round_column(int64_t column, const float* wanted, uint8_t* codes, float* values) {
  for (int64_t row = 0; row < rows_; ++row) {
    const Coded coded = nearest(grid(row, column), wanted[row]);
    codes[row] = coded.code;
    values[row] = coded.value;
  }
}

/// Still in processing order.
void RowBatch::keep(const Columns& columns) {
  const int64_t count = columns.end - columns.begin;
  transpose_into(columns.codes.data(), rows_, count, rows_, codes_.data() + columns.begin,
                 columns_);
  transpose_into(columns.values.data(), rows_, count, rows_, values_.data() + columns.begin,
                 columns_);
}

void RowBatch::into_original_order() {
  std::vector<uint8_t> codes(at(columns_));
  std::vector<float> values(at(columns_));
  for (int64_t row = 0; row < rows_; ++row) {
    uint8_t* row_codes = codes_.data() + row * columns_;
    float* row_values = values_.data() + row * columns_;
    std::copy_n(row_codes, columns_, codes.data());
    std::copy_n(row_values, columns_, values.data());
    for (int64_t i = 0; i < columns_; ++i) {
      const int32_t column = hessian_.order[at(i)];
      row_codes[column] = codes[at(i)];
      row_values[column] = values[at(i)];
    }
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
    const float diagonal = diagonal_[at(column)];
    const Grid g = grid(row, column);
    if (std::abs(gradient[column]) < half_gap_ * std::abs(g.scale) * diagonal) {
      continue;  // no level is nearer to the best value than its own
    }
    float& value = values_[at(row * columns_ + column)];
    uint8_t& code = codes_[at(row * columns_ + column)];
    const Coded found = nearest(g, value - gradient[column] / diagonal);
    if (found.code == code) continue;
    const float step = found.value - value;
    const float gain = -step * (2 * gradient[column] + step * diagonal);
    if (gain <= kSmallestMove * step * step * diagonal) continue;
    code = found.code;
    value = found.value;
    cblas_saxpy(int_of(columns_), step, hessian_row(column), 1, gradient, 1);
    ++moves;
  }
  return moves;
}

/// Moves every block to better parameters where they, as they can be stored, lower the error. All
/// rows of a block together, and the gradient of the columns far away is brought up to date for
/// many blocks at once: both make large products of it.
void RowBatch::refit_scales() {
  const int64_t size =
      std::max(kColumnsPerRefit / format_.block_values, int64_t{1}) * format_.block_values;
  for (int64_t first = 0; first < columns_; first += size) {
    Panel panel(rows_, first, std::min(size, columns_ - first));
    refit_panel(panel);
    const BlasCall call;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, int_of(rows_), int_of(columns_),
                int_of(panel.columns), 1.0f, panel.steps.data(), int_of(panel.columns),
                hessian_row(first), int_of(columns_), 1.0f, gradient_.data(), int_of(columns_));
  }
}

void RowBatch::refit_panel(Panel& panel) {
  for (int64_t row = 0; row < rows_; ++row) {
    std::copy_n(gradient_.data() + row * columns_ + panel.first, panel.columns,
                panel.gradient.data() + row * panel.columns);
  }
  const int64_t begin = panel.first / format_.block_values;
  const int64_t end = begin + panel.columns / format_.block_values;
  for (int64_t block = begin; block < end; ++block) refit_block(block, panel);
}

void RowBatch::refit_block(int64_t block, Panel& panel) {
  const int64_t size = format_.block_values, stride = panel.columns;
  const int64_t place = block * size - panel.first, behind = stride - place - size;
  float* steps = panel.steps.data() + place;
  float* gradient = panel.gradient.data() + place;
  const float* h = hessian_row(block * size) + block * size;
  std::vector<float> products(at(rows_ * size));
  wanted_grids(block, panel);
  for (int64_t row = 0; row < rows_; ++row) try_grids(row, block, steps + row * stride);
  multiply(steps, stride, size, h, products.data());
  for (int64_t row = 0; row < rows_; ++row) {
    accept_grids(row, block, gradient + row * stride, products.data() + row * size,
                 steps + row * stride);
  }
  if (behind == 0) return;
  const BlasCall call;
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, int_of(rows_), int_of(behind),
              int_of(size), 1.0f, steps, int_of(stride), h + size, int_of(columns_), 1.0f,
              gradient + size, int_of(stride));
}

/// out [rows][count] = left [rows][count] * the square of H that begins at `h`.
void RowBatch::multiply(const float* left, int64_t stride, int64_t count, const float* h,
                        float* out) const {
  const BlasCall call;
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, int_of(rows_), int_of(count),
              int_of(count), 1.0f, left, int_of(stride), h, int_of(columns_), 0.0f, out,
              int_of(count));
}

/// The grids that would be best for the codes as they are, each sub-block by itself, into wanted_.
void RowBatch::wanted_grids(int64_t block, const Panel& panel) {
  const int64_t size = format_.sub_block_values, sub_blocks = format_.sub_blocks();
  wanted_.resize(at(rows_ * sub_blocks));
  std::vector<float> levels(at(rows_ * size)), products(levels.size()), ones(at(size));
  for (int64_t s = 0; s < sub_blocks; ++s) {
    const int64_t column = block * format_.block_values + s * size;
    const float* h = hessian_row(column) + column;
    for (int64_t i = 0; i < size; ++i) {
      ones[at(i)] = std::accumulate(h + i * columns_, h + i * columns_ + size, 0.0f);
    }
    for (int64_t row = 0; row < rows_; ++row) {
      const uint8_t* codes = codes_.data() + row * columns_ + column;
      for (int64_t i = 0; i < size; ++i) {
        levels[at(row * size + i)] = static_cast<float>(format_.levels[codes[i]]);
      }
    }
    multiply(levels.data(), size, size, h, products.data());
    for (int64_t row = 0; row < rows_; ++row) {
      Grid& wanted = wanted_[at(row * sub_blocks + s)];
      wanted = grid(row, column);
      improve_grid({levels.data() + row * size, products.data() + row * size, ones.data(),
                    panel.gradient.data() + row * panel.columns + column - panel.first, size},
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
void RowBatch::accept_grids(int64_t row, int64_t block, const float* gradient, const float* product,
                            float* step) {
  const int64_t first = block * format_.block_values;
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
  constexpr size_t kSums = 8;  // that wait for nothing but themselves
  std::array<double, kSums> sums{};
  for (size_t i = 0; i < values_.size(); i += kSums) {
    for (size_t j = 0; j < std::min(kSums, values_.size() - i); ++j)
      sums[j] += (double{values_[i + j]} - weights_[i + j]) * gradient_[i + j];
  }
  return std::accumulate(sums.begin(), sums.end(), 0.0);
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
  RowBatch batch(problem, weights, rows);
  batch.round_in_order();
  batch.start_descent();
  for (int pass = 0; pass < options.descent_passes; ++pass) {
    batch.refit_scales();
    if (!batch.descend()) break;
  }
  batch.pack(out);
  return batch.error();
}

void round_rows(const GptqProblem& problem, const float* weights, int64_t rows, std::byte* out) {
  const auto& [format, hessian, options, outer] = problem;
  if (format.has_levels()) {
    gptq(problem, weights, rows, out);
    return;
  }
  const std::vector<float> importance = diagonal_of(hessian);
  encode_rows(format, weights, rows, hessian.columns, importance.data(), Search::kBest, out);
}

}  // namespace fewbits
