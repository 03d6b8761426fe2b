#include "pipeline/tensor_encoder.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/checked_math.h"
#include "base/error.h"
#include "pipeline/tensor_outer.h"

namespace fewbits {
namespace {

// A band is what is in memory at once: enough rows to keep every thread busy, small enough not to
// matter. A task is what one thread encodes at once. Both depend on sizes alone, so the bytes do
// not depend on the threads.
constexpr int64_t kBandValues = int64_t{1} << 22;
constexpr int64_t kTaskValues = int64_t{1} << 15;

// Above this, scales kept as halves overflow; only F32 and BF16 hold such weights.
constexpr float kLargestHalf = 65504.0f;

bool holds_any_float(const Format& format) {
  return format.name == "F32" || format.name == "BF16";
}

}  // namespace

int64_t encoding_memory(const QuantizePlan& plan, int threads) {
  // Of the rows a thread works on: as floats, encoded and decoded again, and what the search keeps.
  constexpr int64_t kBytesPerOpenValue = 16;
  int64_t most = 0;
  for (const PlannedWeight& planned : plan.weights) {
    const Weight& weight = *planned.weight;
    const int64_t columns = std::max<int64_t>(1, weight.columns());
    const int64_t task = std::max<int64_t>(1, kTaskValues / columns);
    const int64_t band =
        std::min(round_up(std::max<int64_t>(1, kBandValues / columns), task), weight.rows());
    const int64_t row = weight.stored_bytes() / std::max<int64_t>(1, weight.rows()) +
                        row_bytes(*planned.format, columns);
    most = std::max(most, band * row + threads * task * columns * kBytesPerOpenValue);
  }
  return most;
}

TensorEncoder::TensorEncoder(const PlannedWeight& planned, const RoundedWeight& rounded,
                             const QuantizeRun& run, ThreadPool& pool)
    : weight_(*planned.weight),
      format_(*planned.format),
      rounding_(planned.rounded_format()),
      outer_(tensor_outer(rounding_, weight_, pool)),
      rounded_(rounded.bytes),
      search_(run.search),
      importance_(importance_of(weight_, run.importance)),
      pool_(pool),
      columns_(weight_.columns()),
      rows_per_task_(std::max<int64_t>(1, kTaskValues / columns_)),
      rows_per_band_(round_up(std::max<int64_t>(1, kBandValues / columns_), rows_per_task_)),
      open_(static_cast<size_t>(pool.threads())),
      total_{rounded.error, rounded.square} {}

std::span<const std::byte> TensorEncoder::encode(int64_t begin, int64_t count) {
  const auto row_size = static_cast<size_t>(row_bytes(format_, columns_));
  band_.resize(static_cast<size_t>(count) * row_size);
  const int64_t tasks = divide_up(count, rows_per_task_);
  std::vector<RoundingError> sums(static_cast<size_t>(tasks));
  pool_.run(tasks, [&](int64_t task, int thread) {
    const int64_t first = task * rows_per_task_;
    const int64_t rows = std::min(rows_per_task_, count - first);
    std::byte* out = band_.data() + static_cast<size_t>(first) * row_size;
    Open& open = open_[static_cast<size_t>(thread)];
    sums[static_cast<size_t>(task)] = encode_rows_of_task(begin + first, rows, open, out);
  });
  for (const RoundingError& part : sums) {  // in order: the same total for any thread count
    total_.add(part);
  }
  weight_.drop_pages();
  return band_;
}

RoundingError TensorEncoder::encode_rows_of_task(int64_t begin, int64_t rows, Open& open,
                                                 std::byte* out) const {
  const auto columns = static_cast<size_t>(columns_);
  std::vector<float>& values = open.values;
  values.resize(static_cast<size_t>(rows) * columns);
  for (int64_t i = 0; i < rows; ++i) {
    float* row = values.data() + static_cast<size_t>(i) * columns;
    weight_.read_row(weight_.row_of_gguf(begin + i), row);
    check_range(row, begin + i);
  }
  if (rounded_.empty() && is_copied()) {
    copy_rows(begin, rows, out);
    return {0, rounding_error(values, values).square};
  }
  if (&rounding_ == &format_) {
    round_rows(values, begin, rows, out);
    if (!rounded_.empty()) return {};
    decode(out, rows, open.decoded);
    return rounding_error(values, open.decoded);
  }
  open.rounded.resize(static_cast<size_t>(rows * row_bytes(rounding_, columns_)));
  round_rows(values, begin, rows, open.rounded.data());
  decode(open.rounded.data(), rows, open.decoded);
  encode_rows(format_, open.decoded.data(), rows, columns_, nullptr, search_, out);
  return rounded_.empty() ? rounding_error(values, open.decoded) : RoundingError();
}

bool TensorEncoder::is_copied() const {
  return &weight_.format() == &format_ && &rounding_ == &format_ && weight_.has_row_bytes();
}

void TensorEncoder::round_rows(const std::vector<float>& values, int64_t begin, int64_t rows,
                               std::byte* out) const {
  if (rounded_.empty()) return encode_by_matrix(begin, rows, values.data(), out);
  const int64_t row_size = row_bytes(rounding_, columns_);
  std::copy_n(rounded_.begin() + begin * row_size, rows * row_size, out);
}

void TensorEncoder::decode(const std::byte* bytes, int64_t rows, std::vector<float>& values) const {
  values.resize(static_cast<size_t>(rows * columns_));
  decode_rows(rounding_, bytes, rows, columns_, values.data());
}

void TensorEncoder::encode_by_matrix(int64_t begin, int64_t rows, const float* values,
                                     std::byte* out) const {
  const int64_t matrices = std::max<int64_t>(1, std::ssize(importance_));
  const int64_t rows_of_matrix = weight_.rows() / matrices;
  for (int64_t i = 0; i < rows;) {
    const int64_t matrix = (begin + i) / rows_of_matrix;
    const int64_t count = std::min(rows - i, (matrix + 1) * rows_of_matrix - begin - i);
    const float* importance =
        importance_.empty() ? nullptr : importance_[static_cast<size_t>(matrix)].data();
    encode_rows(rounding_, values + i * columns_, count, columns_, importance, search_,
                out + i * row_bytes(rounding_, columns_), &outer_);
    i += count;
  }
}

std::vector<std::vector<float>> TensorEncoder::importance_of(const Weight& weight,
                                                             const Importance* importance) {
  if (importance == nullptr || !weight.is_matrix()) return {};
  const auto found = importance->entries.find(weight.gguf_name);
  if (found == importance->entries.end()) return {};
  const ImportanceEntry& entry = found->second;
  const int64_t experts = weight.shape.size() > 2 ? weight.shape.front() : 1;
  if (entry.columns() != weight.columns() ||
      (entry.matrices() != 1 && entry.matrices() != experts)) {
    throw Error(fmt::format(
        "importance of '{}': {} matrices of {} columns, but the model has {} "
        "of {}; it was gathered from another model",
        weight.gguf_name, entry.matrices(), entry.columns(), experts, weight.columns()));
  }
  std::vector<std::vector<float>> means;
  for (int64_t i = 0; i < entry.matrices(); ++i) means.push_back(entry.means(i));
  return means;
}

void TensorEncoder::check_range(const float* row, int64_t index) const {
  const float limit = holds_any_float(format_) ? std::numeric_limits<float>::max() : kLargestHalf;
  // First whether any is outside, which vectors find out.
  int outside = 0;
  for (int64_t j = 0; j < columns_; ++j) outside |= std::abs(row[j]) <= limit ? 0 : 1;
  if (outside == 0) return;
  for (int64_t j = 0; j < columns_; ++j) {
    if (std::abs(row[j]) <= limit) continue;
    const std::string place =
        fmt::format("tensor '{}': row {} column {} is {}", weight_.tensor->name, index, j, row[j]);
    if (!std::isfinite(row[j])) throw Error(place + "; a model with such weights is broken");
    throw Error(fmt::format("{}, more than {} holds; keep this tensor in F32 or BF16 (--tensor)",
                            place, format_.name));
  }
}

void TensorEncoder::copy_rows(int64_t begin, int64_t rows, std::byte* out) const {
  std::vector<std::byte> scratch;
  for (int64_t i = 0; i < rows; ++i) {
    const auto row = weight_.row_bytes(weight_.row_of_gguf(begin + i), scratch);
    out = std::copy(row.begin(), row.end(), out);
  }
}

}  // namespace fewbits
