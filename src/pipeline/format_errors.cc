#include "pipeline/format_errors.h"

#include <algorithm>
#include <span>
#include <utility>

#include "base/interrupt.h"
#include "calibrate/blas.h"
#include "calibrate/samples.h"
#include "calibrate/sites.h"
#include "engine/engine.h"
#include "methods/gptq.h"
#include "pipeline/sample_streams.h"

namespace fewbits {
namespace {

constexpr int64_t kRows = 32;         // of a matrix; their errors are much alike
constexpr double kMostBits = 9;       // of formats that are chosen from
constexpr double kHeldOut = 1.0 / 3;  // of the samples: what GPTQ has seen, it loses less of
constexpr int64_t kFewest = 3;        // samples; fewer are fitted to and judged on alike

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

/// The sum over rows d of d G d^T.
double output_square(const std::vector<float>& rows, const std::vector<float>& gram, int64_t n) {
  const auto count = static_cast<int>(std::ssize(rows) / n), size = static_cast<int>(n);
  std::vector<float> product(rows.size());
  {
    const BlasCall call;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, count, size, size, 1.0f, rows.data(),
                size, gram.data(), size, 0.0f, product.data(), size);
  }
  double sum = 0;
  for (size_t i = 0; i < rows.size(); ++i) sum += double{rows[i]} * product[i];
  return sum;
}

/// What the matrices that read a site are fed.
struct SiteInputs {
  Hessian fitted;               ///< what GPTQ is told
  std::vector<float> held_out;  ///< mean of x x^T of other samples, [columns][columns]
  std::vector<float> diagonal;  ///< of the first

  SiteInputs(Hessian hessian, std::vector<float> gram)
      : fitted(std::move(hessian)), held_out(std::move(gram)), diagonal(diagonal_of(fitted)) {}
  int64_t columns() const { return fitted.columns; }
};

/// Some rows of a matrix that reads a site.
struct Probe {
  const SiteInputs& inputs;
  std::vector<float> rows;
  double square;  ///< of the outputs

  Probe(const Weight& weight, const SiteInputs& site)
      : inputs(site),
        rows(some_rows(weight)),
        square(output_square(rows, site.held_out, site.columns())) {}
  int64_t count() const { return std::ssize(rows) / inputs.columns(); }
};

double share_lost(const Probe& probe, const Format& format, const std::vector<std::byte>& rounded) {
  const int64_t columns = probe.inputs.columns();
  std::vector<float> lost(probe.rows.size());
  decode_rows(format, rounded.data(), probe.count(), columns, lost.data());
  for (size_t i = 0; i < lost.size(); ++i) lost[i] -= probe.rows[i];
  return probe.square > 0 ? output_square(lost, probe.inputs.held_out, columns) / probe.square : 0;
}

FormatError error_of(const Probe& probe, const Format& format) {
  const int64_t columns = probe.inputs.columns();
  std::vector<std::byte> bytes(at(probe.count() * row_bytes(format, columns)));
  encode_rows(format, probe.rows.data(), probe.count(), columns, probe.inputs.diagonal.data(),
              Search::kBest, bytes.data());
  const double nearest = share_lost(probe, format, bytes);
  gptq({format, probe.inputs.fitted}, probe.rows.data(), probe.count(), bytes.data());
  return {&format, nearest, share_lost(probe, format, bytes)};
}

std::vector<FormatError> errors_of(const Probe& probe, std::span<const Format* const> choice,
                                   ThreadPool& pool) {
  std::vector<FormatError> errors(choice.size());
  pool.run(std::ssize(choice),
           [&](int64_t i, int) { errors[at(i)] = error_of(probe, *choice[at(i)]); });
  throw_if_interrupted();
  return errors;
}

std::vector<const Weight*> readers_in(const Model& model, int64_t layer, Role site) {
  std::vector<const Weight*> readers;
  for (const Role role : readers_of(site)) {
    const Weight* weight = model.find(role, layer);
    if (weight != nullptr && weight->is_matrix()) readers.push_back(weight);
  }
  return readers;
}

struct SplitSamples {
  std::vector<std::vector<Token>> fitted, held_out;

  explicit SplitSamples(std::span<const std::vector<Token>> samples) {
    if (std::ssize(samples) < kFewest) {
      fitted.assign(samples.begin(), samples.end());
      held_out = fitted;
      return;
    }
    const SampleSplit indices = split_samples(std::ssize(samples), kHeldOut);
    for (const int64_t i : indices.learned) fitted.push_back(samples[at(i)]);
    for (const int64_t i : indices.held_out) held_out.push_back(samples[at(i)]);
  }
};

}  // namespace

FormatErrors measure_format_errors(const Model& model, std::span<const std::vector<Token>> samples,
                                   const std::function<void(int64_t done, int64_t total)>& progress,
                                   ThreadPool& pool) {
  FormatErrors errors;
  const SplitSamples split(samples);
  const int64_t tokens = tokens_in(split.fitted);
  SampleStreams fitted(model, split.fitted, {}, pool), held_out(model, split.held_out, {}, pool);
  for (int64_t layer = 0; layer < model.config.layers; ++layer) {
    progress(layer, model.config.layers);
    const LayerWeights weights = load_layer(model, layer, {.float_math = true}, pool);
    for (const Role site : kSitesOfLayer) {
      const std::vector<const Weight*> readers = readers_in(model, layer, site);
      if (readers.empty()) continue;
      const int64_t columns = readers.front()->columns();
      SiteMoments moments = fitted.gather(site, columns, {}, weights);
      const SiteInputs inputs(
          factor_hessian(std::move(moments.gram), columns, pool, {.tokens = tokens}),
          held_out.gather(site, columns, {}, weights).gram);
      for (const Weight* weight : readers) {
        errors[weight] = errors_of({*weight, inputs}, formats_to_choose_from(*weight), pool);
      }
    }
    fitted.advance(weights);
    held_out.advance(weights);
  }
  return errors;
}

}  // namespace fewbits
