#include "pipeline/tensor_outer.h"

#include <algorithm>
#include <vector>

#include "base/checked_math.h"

namespace fewbits {
namespace {

constexpr int64_t kTaskValues = int64_t{1} << 16;

}  // namespace

Outer tensor_outer(const Format& format, const Weight& weight, ThreadPool& pool) {
  Outer outer;
  if (format.sharing != Sharing::kTensor) return outer;
  const int64_t columns = weight.columns(), rows = weight.rows();
  const int64_t rows_per_task = std::max<int64_t>(1, kTaskValues / std::max<int64_t>(1, columns));
  std::vector<TensorRange> parts(static_cast<size_t>(divide_up(rows, rows_per_task)));
  pool.run(std::ssize(parts), [&](int64_t task, int) {
    std::vector<float> values(static_cast<size_t>(columns));
    const int64_t end = std::min(rows, (task + 1) * rows_per_task);
    for (int64_t row = task * rows_per_task; row < end; ++row) {
      weight.read_row(row, values.data());
      parts[static_cast<size_t>(task)].add(values.data(), columns);
    }
  });
  TensorRange range;
  for (const TensorRange& part : parts) range.add(part);  // in order: sums are the same
  format.fit_tensor(range, outer);
  return outer;
}

}  // namespace fewbits
