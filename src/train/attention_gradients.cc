#include "train/attention_gradients.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "calibrate/blas.h"

namespace fewbits {
namespace {

/// One head of one sequence: rows of head_dim values, `stride` apart.
struct Rows {
  const float* values;
  int64_t stride;
};

struct Sums {
  float* values;
  int64_t stride;
  float beta;  ///< 0: written, 1: added to
};

/// Products of a table [length][length] with rows.
class HeadProducts {
 public:
  HeadProducts(int64_t length, int64_t dim) : length_(length), dim_(dim) {}

  /// table = scale a b^T
  void scores(Rows a, Rows b, float scale, float* table) const {
    const BlasCall call;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, size(length_), size(length_), size(dim_),
                scale, a.values, size(a.stride), b.values, size(b.stride), 0.0f, table,
                size(length_));
  }

  /// sums = scale table b, or its transpose's
  void mix(CBLAS_TRANSPOSE transpose, const float* table, Rows b, float scale, Sums sums) const {
    const BlasCall call;
    cblas_sgemm(CblasRowMajor, transpose, CblasNoTrans, size(length_), size(dim_), size(length_),
                scale, table, size(length_), b.values, size(b.stride), sums.beta, sums.values,
                size(sums.stride));
  }

 private:
  static int size(int64_t value) { return static_cast<int>(value); }
  int64_t length_, dim_;
};

/// Scores to probabilities, in place; those that are not seen become 0.
void soften(const AttentionShape& shape, float* table) {
  for (int64_t i = 0; i < shape.length; ++i) {
    float* row = table + i * shape.length;
    const int64_t first = shape.window > 0 ? std::max<int64_t>(0, i + 1 - shape.window) : 0;
    const float max = *std::max_element(row + first, row + i + 1);
    float sum = 0;
    for (int64_t j = first; j <= i; ++j) sum += row[j] = std::exp(row[j] - max);
    std::fill(row, row + first, 0.0f);
    for (int64_t j = first; j <= i; ++j) row[j] /= sum;
    std::fill(row + i + 1, row + shape.length, 0.0f);
  }
}

/// The gradient of probabilities becomes that of scores, in place: dS = P (dP - sum_j P dP).
void back_through_softmax(int64_t length, const float* probabilities, float* gradient) {
  for (int64_t i = 0; i < length; ++i) {
    const float* p = probabilities + i * length;
    float* d = gradient + i * length;
    float sum = 0;
    for (int64_t j = 0; j <= i; ++j) sum += p[j] * d[j];
    for (int64_t j = 0; j <= i; ++j) d[j] = p[j] * (d[j] - sum);
    std::fill(d + i + 1, d + length, 0.0f);
  }
}

/// Where the rows of one sequence's head begin.
struct Place {
  int64_t query, kv;  ///< offsets
  int64_t query_stride, kv_stride;
};

Place place_of(const AttentionShape& shape, int64_t sequence, int64_t head) {
  const int64_t first = sequence * shape.length, group = shape.heads / shape.kv_heads;
  const int64_t query_stride = shape.heads * shape.head_dim;
  const int64_t kv_stride = shape.kv_heads * shape.head_dim;
  return {first * query_stride + head * shape.head_dim,
          first * kv_stride + head / group * shape.head_dim, query_stride, kv_stride};
}

using Tables = std::vector<std::vector<float>>;

/// Scratch for each thread.
Tables tables_of(const AttentionShape& shape, int64_t count, const ThreadPool& pool) {
  return Tables(static_cast<size_t>(pool.threads()),
                std::vector<float>(static_cast<size_t>(count * shape.length * shape.length)));
}

}  // namespace

void attend_forward(const AttentionShape& shape, const AttentionInputs& inputs, float* out,
                    ThreadPool& pool) {
  Tables tables = tables_of(shape, 1, pool);
  const HeadProducts products(shape.length, shape.head_dim);
  pool.run(shape.sequences * shape.heads, [&](int64_t task, int thread) {
    const Place place = place_of(shape, task / shape.heads, task % shape.heads);
    float* table = tables[static_cast<size_t>(thread)].data();
    products.scores({inputs.queries + place.query, place.query_stride},
                    {inputs.keys + place.kv, place.kv_stride}, shape.scale, table);
    soften(shape, table);
    products.mix(CblasNoTrans, table, {inputs.values + place.kv, place.kv_stride}, 1,
                 {out + place.query, place.query_stride, 0});
  });
}

void attend_backward(const AttentionShape& shape, const AttentionInputs& inputs, const float* dout,
                     const AttentionGradients& gradients, ThreadPool& pool) {
  Tables tables = tables_of(shape, 2, pool);
  const HeadProducts products(shape.length, shape.head_dim);
  const int64_t group = shape.heads / shape.kv_heads;
  // The heads that share keys and values add to the same sums, and so belong to one task.
  pool.run(shape.sequences * shape.kv_heads, [&](int64_t task, int thread) {
    float* table = tables[static_cast<size_t>(thread)].data();
    float* slope = table + shape.length * shape.length;
    for (int64_t i = 0; i < group; ++i) {
      const int64_t head = task % shape.kv_heads * group + i;
      const Place place = place_of(shape, task / shape.kv_heads, head);
      const Rows queries{inputs.queries + place.query, place.query_stride};
      const Rows keys{inputs.keys + place.kv, place.kv_stride};
      const Rows values{inputs.values + place.kv, place.kv_stride};
      const Rows outer{dout + place.query, place.query_stride};
      const float beta = i == 0 ? 0.0f : 1.0f;
      products.scores(queries, keys, shape.scale, table);
      soften(shape, table);
      products.mix(CblasTrans, table, outer, 1,
                   {gradients.values + place.kv, place.kv_stride, beta});
      products.scores(outer, values, 1, slope);
      back_through_softmax(shape.length, table, slope);
      products.mix(CblasNoTrans, slope, keys, shape.scale,
                   {gradients.queries + place.query, place.query_stride, 0});
      products.mix(CblasTrans, slope, queries, shape.scale,
                   {gradients.keys + place.kv, place.kv_stride, beta});
    }
  });
}

}  // namespace fewbits
