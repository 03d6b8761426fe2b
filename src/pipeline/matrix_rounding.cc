#include "pipeline/matrix_rounding.h"

#include <algorithm>

#include "base/checked_math.h"
#include "base/interrupt.h"
#include "calibrate/blas.h"

namespace fewbits {
namespace {

constexpr int64_t kRowsPerTask = 32;  // where they are only read

size_t at(int64_t i) {
  return static_cast<size_t>(i);
}

/// [rows][n] = a [rows][n] * b [n][n]
std::vector<float> product(const std::vector<float>& a, const std::vector<float>& b, int64_t n) {
  std::vector<float> result(a.size());
  const auto size = static_cast<int>(n), rows = static_cast<int>(std::ssize(a) / n);
  const BlasCall call;
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, rows, size, size, 1.0f, a.data(), size,
              b.data(), size, 0.0f, result.data(), size);
  return result;
}

/// Where each weight would be best while all others stay at `values`: q - ((q - w) H) / H_jj.
std::vector<float> best_alone(const Hessian& hessian, const std::vector<float>& weights,
                              const std::vector<float>& values) {
  std::vector<float> lost(values);
  for (size_t i = 0; i < lost.size(); ++i) lost[i] -= weights[i];
  std::vector<float> best = product(lost, hessian.matrix, hessian.columns);
  for (size_t i = 0; i < best.size(); ++i) {
    const auto column = static_cast<int64_t>(i) % hessian.columns;
    best[i] = values[i] - best[i] / hessian.diagonal(column);
  }
  return best;
}

}  // namespace

EncodedMatrix MatrixRounding::round() const {
  const int64_t all_rows = weight_.rows(), columns = weight_.columns();
  EncodedMatrix encoded;
  encoded.largest_input = target_.moments.largest;
  encoded.columns = target_.columns;
  encoded.bytes.resize(at(all_rows * row_bytes(format_, columns)));
  if (options_.learning.wanted()) {
    encoded.wanted.resize(at(all_rows * columns));
    encoded.best.resize(encoded.wanted.size());
  }
  const int64_t at_once = rows_rounded_at_once(all_rows, columns);
  const int64_t tasks = divide_up(all_rows, at_once);
  std::vector<Sums> sums(at(tasks));
  const Outer outer = outer_of_tensor();
  pool_.run(tasks, [&](int64_t task, int thread) {
    if (interrupted()) return;
    if (thread == 0 && options_.progress) options_.progress(weight_, -1);
    const int64_t first = task * at_once;
    sums[at(task)] =
        round_rows_of_task({first, std::min(at_once, all_rows - first)}, outer, encoded);
  });
  throw_if_interrupted();
  for (const Sums& part : sums) {  // in order: the same total for any thread count
    encoded.error += part.error;
    encoded.square += part.square;
  }
  weight_.drop_pages();
  if (options_.progress) {
    options_.progress(weight_, encoded.square > 0 ? encoded.error / encoded.square : 0);
  }
  return encoded;
}

MatrixRounding::Sums MatrixRounding::round_rows_of_task(Rows rows, const Outer& outer,
                                                        EncodedMatrix& encoded) const {
  const int64_t columns = weight_.columns();
  const std::vector<float> values = scaled(rows);
  std::vector<float> wanted = values;
  if (!target_.moments.cross.empty()) aim_at_outputs(rows, wanted);
  std::byte* out = encoded.bytes.data() + rows.first * row_bytes(format_, columns);
  if (format_.is_float()) {
    encode_rows(format_, values.data(), rows.count, columns, nullptr, Search::kBest, out);
  } else {
    round_rows({format_, target_.hessian, options_.gptq, &outer}, wanted.data(), rows.count, out);
  }
  std::vector<float> decoded(values.size());
  decode_rows(format_, out, rows.count, columns, decoded.data());
  if (options_.learning.wanted()) {
    const std::vector<float> best = best_alone(target_.hessian, wanted, decoded);
    std::copy(values.begin(), values.end(), encoded.wanted.begin() + rows.first * columns);
    std::copy(best.begin(), best.end(), encoded.best.begin() + rows.first * columns);
  }
  Sums sums;
  for (size_t i = 0; i < values.size(); ++i) {
    const double error = double{values[i]} - decoded[i];
    sums.error += error * error;
    sums.square += double{values[i]} * values[i];
  }
  return sums;
}

/// What all rows share, where the format has such parameters.
Outer MatrixRounding::outer_of_tensor() const {
  Outer outer;
  if (!format_.fit_tensor) return outer;
  TensorRange range;
  for (int64_t first = 0; first < weight_.rows(); first += kRowsPerTask) {
    const std::vector<float> values =
        scaled({first, std::min(kRowsPerTask, weight_.rows() - first)});
    range.add(values.data(), std::ssize(values));
  }
  format_.fit_tensor(range, outer);
  return outer;
}

std::vector<float> MatrixRounding::scaled(Rows rows) const {
  const int64_t columns = weight_.columns();
  std::vector<float> values(at(rows.count * columns));
  for (int64_t i = 0; i < rows.count; ++i) {
    const int64_t row = weight_.row_of_gguf(rows.first + i);
    const auto out = std::span(values).subspan(at(i * columns), at(columns));
    weight_.read_row(row, out.data());
    const float share = row_scales_.empty() ? 1.0f : 1 / row_scales_[at(row)];
    for (size_t j = 0; j < out.size(); ++j) {
      out[j] *= share * (target_.column_scales.empty() ? 1.0f : target_.column_scales[j]);
    }
    if (target_.columns.empty()) continue;
    const std::vector<float> unsorted(out.begin(), out.end());
    for (size_t j = 0; j < out.size(); ++j) out[j] = unsorted[at(target_.columns[j])];
  }
  return values;
}

/// Moves rows w towards those that come nearest to the wanted outputs, given the inputs there are:
/// by (E[y x^T] - w E[x x^T]) H^-1 where a part of the layer's outputs y is known, else by
/// w E[(x' - x) x^T] H^-1 with the 16-bit model's inputs x' (GPTAQ, Li et al. 2025, arXiv
/// 2504.02692, solved for whole rows).
void MatrixRounding::aim_at_outputs(Rows rows, std::vector<float>& values) const {
  const bool output = target_.moments.has_output();
  std::vector<float> change = output ? missing_outputs(rows, values)
                                     : product(values, target_.moments.cross, weight_.columns());
  multiply_by_inverse(target_.hessian, change);
  const auto share = static_cast<float>(options_.output_share * target_.hessian.kept);
  for (size_t i = 0; i < values.size(); ++i) values[i] += share * change[i];
}

/// E[y x^T] - w E[x x^T]. Of H that mean is left but for its diagonal and a factor.
std::vector<float> MatrixRounding::missing_outputs(Rows rows,
                                                   const std::vector<float>& values) const {
  const Hessian& hessian = target_.hessian;
  const int64_t columns = weight_.columns();
  std::vector<float> missing = product(values, hessian.matrix, columns);
  const auto share = static_cast<float>(1 / hessian.kept);
  for (int64_t i = 0; i < rows.count; ++i) {
    const float* wanted = &target_.moments.cross[at(weight_.row_of_gguf(rows.first + i) * columns)];
    for (int64_t j = 0; j < columns; ++j) {
      const float value = values[at(i * columns + j)];
      float& element = missing[at(i * columns + j)];
      const float others = (element - value * hessian.diagonal(j)) * share;
      element = wanted[j] - others - value * target_.squares[at(j)];
    }
  }
  return missing;
}

std::vector<float> MatrixRounding::lost_means(std::span<const std::byte> rounded) const {
  const int64_t all_rows = weight_.rows(), columns = weight_.columns();
  std::vector<float> lost(at(all_rows));
  pool_.run(divide_up(all_rows, kRowsPerTask), [&](int64_t task, int) {
    const int64_t first = task * kRowsPerTask, rows = std::min(kRowsPerTask, all_rows - first);
    const std::vector<float> values = scaled({first, rows});
    std::vector<float> found(values.size());
    decode_rows(format_, rounded.data() + first * row_bytes(format_, columns), rows, columns,
                found.data());
    for (int64_t i = 0; i < rows; ++i) {
      double sum = 0;
      for (int64_t j = 0; j < columns; ++j) {
        const size_t place = at(i * columns + j);
        sum += (double{values[place]} - found[place]) * target_.moments.mean[at(j)];
      }
      lost[at(weight_.row_of_gguf(first + i))] = static_cast<float>(sum);
    }
  });
  return lost;
}

std::vector<float> values_in_order(const Weight& weight, const Format& format,
                                   const EncodedMatrix& encoded) {
  const int64_t rows = weight.rows(), columns = weight.columns();
  std::vector<float> values(at(rows * columns)), row(at(columns));
  for (int64_t i = 0; i < rows; ++i) {
    const std::byte* bytes = encoded.bytes.data() + i * row_bytes(format, columns);
    decode_rows(format, bytes, 1, columns, row.data());
    for (int64_t j = 0; j < columns; ++j)
      values[at(i * columns + encoded.columns[at(j)])] = row[at(j)];
  }
  return values;
}

void update_error(const Weight& weight, const Format& format, EncodedMatrix& encoded) {
  const std::vector<float>& wanted = encoded.wanted;
  std::vector<float> values(wanted.size());
  decode_rows(format, encoded.bytes.data(), weight.rows(), weight.columns(), values.data());
  encoded.error = 0;
  for (size_t i = 0; i < wanted.size(); ++i) {
    const double error = double{wanted[i]} - values[i];
    encoded.error += error * error;
  }
}

}  // namespace fewbits
