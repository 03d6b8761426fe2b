#include "pipeline/sensitivity.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "base/checked_math.h"
#include "base/error.h"
#include "base/interrupt.h"
#include "engine/engine.h"
#include "evaluate/logit_rows.h"
#include "pipeline/allocate.h"
#include "pipeline/rounding_error.h"

namespace fewbits {
namespace {

constexpr int64_t kScoredEvery = 6;     // positions: predictions side by side tell much the same
constexpr int64_t kRowsPerTask = 16;    // encoded by one thread at once
constexpr int64_t kRowsForErrors = 96;  // of a matrix, to compare formats by
constexpr double kMostBits = 9;         // of formats that are chosen from

/// The matrix in the probe format, rows in our order.
struct RoundedMatrix {
  std::vector<std::byte> bytes;
  RoundingError error = {};
};

/// Rounds consecutive rows of `values` and measures what was lost. `out`: their bytes.
RoundingError round_rows(const Format& format, const std::vector<float>& values, int64_t columns,
                         std::byte* out) {
  const auto rows = static_cast<int64_t>(values.size()) / columns;
  encode_rows(format, values.data(), rows, columns, nullptr, Search::kBest, out);
  std::vector<float> decoded(values.size());
  decode(format, out, rows * columns, decoded.data());
  return rounding_error(values, decoded);
}

std::vector<float> read_rows(const Weight& weight, int64_t first, int64_t count, int64_t step) {
  std::vector<float> values(static_cast<size_t>(count * weight.columns()));
  for (int64_t i = 0; i < count; ++i) {
    weight.read_row(first + i * step, values.data() + i * weight.columns());
  }
  return values;
}

RoundedMatrix round_matrix(const Weight& weight, ThreadPool& pool) {
  const Format& format = probe_format();
  const int64_t row_size = row_bytes(format, weight.columns());
  RoundedMatrix matrix;
  matrix.bytes.resize(static_cast<size_t>(weight.rows() * row_size));
  std::vector<RoundingError> parts(static_cast<size_t>(divide_up(weight.rows(), kRowsPerTask)));
  pool.run(std::ssize(parts), [&](int64_t task, int) {
    const int64_t first = task * kRowsPerTask;
    const auto values = read_rows(weight, first, std::min(kRowsPerTask, weight.rows() - first), 1);
    parts[static_cast<size_t>(task)] =
        round_rows(format, values, weight.columns(), matrix.bytes.data() + first * row_size);
  });
  for (const RoundingError& part : parts) {
    matrix.error.add(part);
  }
  return matrix;
}

/// Squared error over squared weights in `format`, from rows at even distances.
double relative_error(const Weight& weight, const Format& format) {
  const int64_t step = std::max<int64_t>(1, weight.rows() / kRowsForErrors);
  const int64_t count = std::min(kRowsForErrors, weight.rows() / step);
  const auto values = read_rows(weight, 0, count, step);
  std::vector<std::byte> bytes(static_cast<size_t>(count * row_bytes(format, weight.columns())));
  return round_rows(format, values, weight.columns(), bytes.data()).relative();
}

/// One sample in the 16-bit model.
struct Reference {
  std::vector<std::vector<float>> states;  ///< before each layer, [tokens][hidden size]
  std::vector<float> logits;               ///< of the scored positions
};

class Prober {
 public:
  Prober(const Model& model, std::span<const std::vector<Token>> samples, ThreadPool& pool)
      : model_(model), pool_(pool), engine_(model, pool), cache_(model.config, longest(samples)) {
    for (const auto& sample : samples) references_.push_back(run(sample));
  }

  Sensitivity probe(const Weight& weight) {
    RoundedMatrix rounded = round_matrix(weight, pool_);
    exchange(weight, rounded.bytes);
    double sum = 0;
    int64_t rows = 0;
    for (const Reference& reference : references_) {
      throw_if_interrupted();
      std::vector<float> states = reference.states[static_cast<size_t>(weight.layer)];
      for (int64_t layer = weight.layer; layer < model_.config.layers; ++layer) {
        engine_.run_layer(layer, states, cache_);
      }
      sum += divergence(reference.logits, scored_logits(states), rows);
    }
    restore();
    return {&weight, sum / static_cast<double>(rows), rounded.error.relative()};
  }

 private:
  static int64_t longest(std::span<const std::vector<Token>> samples) {
    size_t length = 1;
    for (const auto& sample : samples) length = std::max(length, sample.size());
    return static_cast<int64_t>(length);
  }

  Reference run(const std::vector<Token>& sample) {
    Reference reference;
    std::vector<float> states = engine_.embed(sample);
    for (int64_t layer = 0; layer < model_.config.layers; ++layer) {
      throw_if_interrupted();
      reference.states.push_back(states);
      engine_.run_layer(layer, states, cache_);
    }
    reference.logits = scored_logits(states);
    return reference;
  }

  std::vector<float> scored_logits(const std::vector<float>& states) {
    const int64_t hidden = model_.config.hidden;
    std::vector<float> scored;
    for (int64_t t = kScoredEvery - 1; t < std::ssize(states) / hidden; t += kScoredEvery) {
      scored.insert(scored.end(), states.begin() + t * hidden, states.begin() + (t + 1) * hidden);
    }
    const int64_t rows = std::ssize(scored) / hidden;
    engine_.norm(scored);
    std::vector<float> logits(static_cast<size_t>(rows * model_.config.vocabulary));
    engine_.logits(scored, rows, logits.data());
    return logits;
  }

  /// Sum over the scored positions, whose number is added to `rows`.
  double divergence(const std::vector<float>& reference, const std::vector<float>& model,
                    int64_t& rows) const {
    const auto width = static_cast<size_t>(model_.config.vocabulary);
    const size_t count = reference.size() / width;
    std::vector<double> parts(count);
    pool_.run(static_cast<int64_t>(count), [&](int64_t row, int) {
      const size_t offset = static_cast<size_t>(row) * width;
      parts[static_cast<size_t>(row)] = compare(std::span(reference).subspan(offset, width),
                                                std::span(model).subspan(offset, width))
                                            .divergence;
    });
    double sum = 0;
    for (const double part : parts) sum += part;
    rows += static_cast<int64_t>(count);
    return sum;
  }

  void exchange(const Weight& weight, const std::vector<std::byte>& bytes) {
    const Format& format = probe_format();
    const auto row_size = static_cast<size_t>(row_bytes(format, weight.columns()));
    LayerWeights& layer = engine_.layer(weight.layer);
    for (const MatrixPart& part : parts_of(weight, model_.config, layer)) {
      const auto rows = std::span(bytes).subspan(static_cast<size_t>(part.begin) * row_size,
                                                 static_cast<size_t>(part.count) * row_size);
      PackedMatrix packed = PackedMatrix::pack({&format, {part.count, weight.columns()}, rows}, {},
                                               {.float_math = true}, pool_);
      std::swap(packed, *part.matrix);
      exchanged_.emplace_back(part.matrix, std::move(packed));
    }
  }

  void restore() {
    for (auto& [place, original] : exchanged_) *place = std::move(original);
    exchanged_.clear();
  }

  const Model& model_;
  ThreadPool& pool_;
  Engine engine_;
  KvCache cache_;
  std::vector<Reference> references_;
  std::vector<std::pair<PackedMatrix*, PackedMatrix>> exchanged_;
};

bool can_be_probed(const Weight& weight, const ModelConfig& config) {
  if (weight.layer < 0 || !weight.is_matrix()) return false;
  if (weight.columns() % probe_format().block_values != 0) return false;
  LayerWeights none;
  return !parts_of(weight, config, none).empty();
}

/// The formats that a GGUF file may have rows of so many columns in.
std::vector<const Format*> candidates(int64_t columns) {
  std::vector<const Format*> result;
  for (const Format* format : formats()) {
    const bool fits = format->gguf_type >= 0 && format->has_levels() &&
                      format->sharing == Sharing::kBlock && columns % format->block_values == 0;
    if (fits && format->bits_per_value() <= kMostBits) result.push_back(format);
  }
  return result;
}

}  // namespace

const Format& probe_format() {
  return format_named("IQ4_NL");
}

std::vector<Sensitivity> measure_sensitivity(
    const Model& model, std::span<const std::vector<Token>> samples, ThreadPool& pool,
    const std::function<void(int64_t, int64_t)>& progress) {
  std::vector<const Weight*> weights;
  for (const Weight& weight : model.weights) {
    if (can_be_probed(weight, model.config)) weights.push_back(&weight);
  }
  Prober prober(model, samples, pool);
  std::vector<Sensitivity> result;
  for (const Weight* weight : weights) {
    progress(std::ssize(result), std::ssize(weights));
    result.push_back(prober.probe(*weight));
  }
  return result;
}

void fit_to_size(QuantizePlan& plan, std::span<const Sensitivity> sensitivities, int64_t bytes) {
  std::map<const Weight*, PlannedWeight*> planned;
  for (PlannedWeight& weight : plan.weights) planned[weight.weight] = &weight;
  int64_t budget = bytes - gguf_file_bytes(plan.metadata, plan.tensors());
  std::vector<PlannedWeight*> open;
  std::vector<std::vector<const Format*>> formats_of;
  std::vector<std::vector<Choice>> items;
  for (const auto& [weight, divergence, error] : sensitivities) {
    if (planned.at(weight)->fixed) continue;
    open.push_back(planned.at(weight));
    budget += weight->rows() * row_bytes(*planned.at(weight)->format, weight->columns());
    const double slope = error > 0 ? divergence / error : 0;
    formats_of.push_back(candidates(weight->columns()));
    std::vector<Choice>& choices = items.emplace_back();
    for (const Format* format : formats_of.back()) {
      choices.push_back({weight->rows() * row_bytes(*format, weight->columns()),
                         slope * relative_error(*weight, *format)});
    }
  }
  const auto chosen = allocate(items, budget);
  for (size_t i = 0; i < chosen.size(); ++i) {
    open[i]->format = formats_of[i][chosen[i]];
  }
  plan.bytes_out = gguf_file_bytes(plan.metadata, plan.tensors());
}

}  // namespace fewbits
