#include "pipeline/format_errors.h"

#include <algorithm>
#include <utility>

#include "base/interrupt.h"
#include "calibrate/blas.h"
#include "calibrate/sites.h"
#include "engine/engine.h"
#include "methods/gptq.h"
#include "pipeline/sample_streams.h"

namespace fewbits {
namespace {

constexpr int64_t kRows = 32;    // of a matrix; their errors are much alike
constexpr double kMostBits = 9;  // of formats that are chosen from

size_t at(int64_t i) {
  return static_cast<size_t>(i);
}

std::vector<const Format*> formats_to_choose_from(const Weight& weight) {
  std::vector<const Format*> result;
  for (const Format* format : formats()) {
    const bool fits = format->gguf_type >= 0 && format->has_levels() &&
                      format->sharing == Sharing::kBlock &&
                      weight.columns() % format->block_values == 0;
    if (fits && format->bits_per_value() <= kMostBits) result.push_back(format);
  }
  return result;
}

/// At even distances.
std::vector<float> some_rows(const Weight& weight) {
  const int64_t columns = weight.columns(), count = std::min(kRows, weight.rows());
  std::vector<float> values(at(count * columns));
  for (int64_t i = 0; i < count; ++i) {
    weight.read_row(i * weight.rows() / count, values.data() + i * columns);
  }
  return values;
}

/// The sum over rows d of d H d^T.
double output_square(const std::vector<float>& rows, const Hessian& hessian) {
  const int64_t n = hessian.columns;
  const auto count = static_cast<int>(std::ssize(rows) / n), size = static_cast<int>(n);
  std::vector<float> product(rows.size());
  {
    const BlasCall call;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, count, size, size, 1.0f, rows.data(),
                size, hessian.matrix.data(), size, 0.0f, product.data(), size);
  }
  double sum = 0;
  for (size_t i = 0; i < rows.size(); ++i) sum += double{rows[i]} * product[i];
  return sum;
}

/// Rows of a matrix, and what they are fed.
struct Probe {
  const std::vector<float>& rows;
  const Hessian& hessian;
  const std::vector<float>& diagonal;
  double square;  ///< output_square of the rows

  int64_t count() const { return std::ssize(rows) / hessian.columns; }
};

double share_lost(const Probe& probe, const Format& format, const std::vector<std::byte>& rounded) {
  std::vector<float> lost(probe.rows.size());
  decode_rows(format, rounded.data(), probe.count(), probe.hessian.columns, lost.data());
  for (size_t i = 0; i < lost.size(); ++i) lost[i] -= probe.rows[i];
  return probe.square > 0 ? output_square(lost, probe.hessian) / probe.square : 0;
}

FormatError error_of(const Probe& probe, const Format& format) {
  const int64_t columns = probe.hessian.columns;
  std::vector<std::byte> bytes(at(probe.count() * row_bytes(format, columns)));
  encode_rows(format, probe.rows.data(), probe.count(), columns, probe.diagonal.data(),
              Search::kBest, bytes.data());
  const double nearest = share_lost(probe, format, bytes);
  gptq({format, probe.hessian}, probe.rows.data(), probe.count(), bytes.data());
  return {&format, nearest, share_lost(probe, format, bytes)};
}

std::vector<FormatError> errors_of(const Weight& weight, const Hessian& hessian, ThreadPool& pool) {
  const std::vector<float> rows = some_rows(weight);
  std::vector<float> diagonal(at(hessian.columns));
  for (int64_t j = 0; j < hessian.columns; ++j) diagonal[at(j)] = hessian.diagonal(j);
  const Probe probe{rows, hessian, diagonal, output_square(rows, hessian)};
  const std::vector<const Format*> choice = formats_to_choose_from(weight);
  std::vector<FormatError> errors(choice.size());
  pool.run(std::ssize(choice),
           [&](int64_t i, int) { errors[at(i)] = error_of(probe, *choice[at(i)]); });
  throw_if_interrupted();
  return errors;
}

}  // namespace

FormatErrors measure_format_errors(const Model& model,
                                   const std::vector<std::vector<Token>>& samples,
                                   const std::function<void(int64_t done, int64_t total)>& progress,
                                   ThreadPool& pool) {
  FormatErrors errors;
  SampleStreams streams(model, samples, {}, pool);
  for (int64_t layer = 0; layer < model.config.layers; ++layer) {
    progress(layer, model.config.layers);
    const LayerWeights weights = load_layer(model, layer, {.float_math = true}, pool);
    for (const Role site : kSitesOfLayer) {
      std::vector<const Weight*> readers;
      for (const Role role : readers_of(site)) {
        const Weight* weight = model.find(role, layer);
        if (weight != nullptr && weight->is_matrix()) readers.push_back(weight);
      }
      if (readers.empty()) continue;
      const int64_t columns = readers.front()->columns();
      SiteMoments moments = streams.gather(site, columns, {}, weights);
      const Hessian hessian = factor_hessian(std::move(moments.gram), columns, pool);
      for (const Weight* weight : readers) errors[weight] = errors_of(*weight, hessian, pool);
    }
    streams.advance(weights);
  }
  return errors;
}

}  // namespace fewbits
