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

namespace fewbits {
namespace {

constexpr int64_t kScoredEvery = 6;   // positions: predictions side by side tell much the same
constexpr int64_t kRowsPerTask = 16;  // encoded by one thread at once

std::vector<float> read_rows(const Weight& weight, int64_t first, int64_t count) {
  std::vector<float> values(static_cast<size_t>(count * weight.columns()));
  for (int64_t i = 0; i < count; ++i) {
    weight.read_row(first + i, values.data() + i * weight.columns());
  }
  return values;
}

/// Bytes in some format, rows in our order.
std::vector<std::byte> round_matrix(const Weight& weight, const Format& format,
                                    std::span<const float> inputs, ThreadPool& pool) {
  const int64_t columns = weight.columns(), row_size = row_bytes(format, columns);
  std::vector<std::byte> bytes(static_cast<size_t>(weight.rows() * row_size));
  pool.run(divide_up(weight.rows(), kRowsPerTask), [&](int64_t task, int) {
    const int64_t first = task * kRowsPerTask, rows = std::min(kRowsPerTask, weight.rows() - first);
    const auto values = read_rows(weight, first, rows);
    encode_rows(format, values.data(), rows, columns, inputs.data(), Search::kBest,
                bytes.data() + first * row_size);
  });
  return bytes;
}

std::vector<float> inputs_of(const Importance& importance, const Weight& weight) {
  return importance.entries.at(weight.gguf_name).means(0);
}

/// One sample in the 16-bit model.
struct Reference {
  std::vector<std::vector<float>> states;  ///< before each layer, [tokens][hidden size]
  std::vector<float> logits;               ///< of the scored positions
};

class Prober {
 public:
  Prober(const Model& model, std::span<const std::vector<Token>> samples,
         const SensitivityOptions& options, ThreadPool& pool)
      : model_(model),
        options_(options),
        pool_(pool),
        engine_(model, pool),
        cache_(model.config, longest(samples)) {
    for (const auto& sample : samples) references_.push_back(run(sample));
    if (!options_.rounded.empty()) round_all(samples);
  }

  Sensitivity probe(const Weight& weight) {
    const auto found = options_.rounded.find(&weight);
    if (found != options_.rounded.end()) return without(weight, *found->second);
    exchange(weight, probe_format(), round(weight, probe_format()));
    const double divergence = divergence_behind(weight.layer);
    restore();
    return with_costs(weight, probe_format(), divergence);
  }

 private:
  static int64_t longest(std::span<const std::vector<Token>> samples) {
    size_t length = 1;
    for (const auto& sample : samples) length = std::max(length, sample.size());
    return static_cast<int64_t>(length);
  }

  std::vector<std::byte> round(const Weight& weight, const Format& format) {
    return round_matrix(weight, format, inputs_of(*options_.importance, weight), pool_);
  }

  /// The states of references_ are those of the rounded model afterwards.
  void round_all(std::span<const std::vector<Token>> samples) {
    for (const auto& [weight, format] : options_.rounded) {
      throw_if_interrupted();
      exchange(*weight, *format, round(*weight, *format));
    }
    exchanged_.clear();
    double sum = 0;
    int64_t rows = 0;
    for (size_t i = 0; i < samples.size(); ++i) {
      Reference behind = run(samples[i]);
      sum += divergence(references_[i].logits, behind.logits, rows);
      references_[i].states = std::move(behind.states);
    }
    all_rounded_ = sum / static_cast<double>(rows);
  }

  /// What the rounded model gains where this matrix alone is left as it was.
  Sensitivity without(const Weight& weight, const Format& format) {
    const Format& floats = format_named("F32");
    const std::vector<float> values = read_rows(weight, 0, weight.rows());
    exchange(weight, floats, std::as_bytes(std::span(values)));
    const double divergence = all_rounded_ - divergence_behind(weight.layer);
    restore();
    return with_costs(weight, format, divergence);
  }

  Sensitivity with_costs(const Weight& weight, const Format& format, double divergence) const {
    Sensitivity sensitivity{&weight, &format, divergence, 0};
    for (const FormatError& error : options_.errors->at(&weight)) {
      const int64_t bytes = weight.rows() * row_bytes(*error.format, weight.columns());
      sensitivity.costs.push_back({error.format, bytes, error.nearest, error.fitted});
      if (error.format == &format) sensitivity.output_error = error.nearest;
    }
    return sensitivity;
  }

  /// Of the model as it is now; what comes before `layer` is as it was.
  double divergence_behind(int64_t first) {
    double sum = 0;
    int64_t rows = 0;
    for (const Reference& reference : references_) {
      throw_if_interrupted();
      std::vector<float> states = reference.states[static_cast<size_t>(first)];
      for (int64_t layer = first; layer < model_.config.layers; ++layer) {
        engine_.run_layer(layer, states, cache_);
      }
      sum += divergence(reference.logits, scored_logits(states), rows);
    }
    return sum / static_cast<double>(rows);
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

  void exchange(const Weight& weight, const Format& format, std::span<const std::byte> bytes) {
    const auto row_size = static_cast<size_t>(row_bytes(format, weight.columns()));
    LayerWeights& layer = engine_.layer(weight.layer);
    for (const MatrixPart& part : parts_of(weight, model_.config, layer)) {
      const auto rows = bytes.subspan(static_cast<size_t>(part.begin) * row_size,
                                      static_cast<size_t>(part.count) * row_size);
      PackedMatrix packed =
          PackedMatrix::keep(format, {part.count, weight.columns()}, {rows.begin(), rows.end()},
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
  const SensitivityOptions& options_;
  ThreadPool& pool_;
  Engine engine_;
  KvCache cache_;
  std::vector<Reference> references_;
  double all_rounded_ = 0;  ///< divergence with all of options_.rounded
  std::vector<std::pair<PackedMatrix*, PackedMatrix>> exchanged_;
};

bool can_be_probed(const Weight& weight, const ModelConfig& config) {
  if (weight.layer < 0 || !weight.is_matrix()) return false;
  if (weight.columns() % probe_format().block_values != 0) return false;
  LayerWeights none;
  return !parts_of(weight, config, none).empty();
}

}  // namespace

const Format& probe_format() {
  return format_named("IQ4_NL");
}

std::vector<Sensitivity> measure_sensitivity(const Model& model,
                                             std::span<const std::vector<Token>> samples,
                                             const SensitivityOptions& options, ThreadPool& pool) {
  std::vector<const Weight*> weights;
  for (const Weight& weight : model.weights) {
    if (can_be_probed(weight, model.config)) weights.push_back(&weight);
  }
  Prober prober(model, samples, options, pool);
  std::vector<Sensitivity> result;
  for (const Weight* weight : weights) {
    options.progress(std::ssize(result), std::ssize(weights));
    result.push_back(prober.probe(*weight));
  }
  return result;
}

void fit_to_size(QuantizePlan& plan, std::span<const Sensitivity> sensitivities, Rounding rounding,
                 int64_t bytes) {
  std::map<const Weight*, PlannedWeight*> planned;
  for (PlannedWeight& weight : plan.weights) planned[weight.weight] = &weight;
  int64_t budget = bytes - gguf_file_bytes(plan.metadata, plan.tensors());
  std::vector<PlannedWeight*> open;
  std::vector<const std::vector<FormatCost>*> costs;
  std::vector<std::vector<Choice>> items;
  for (const Sensitivity& sensitivity : sensitivities) {
    const Weight& weight = *sensitivity.weight;
    if (planned.at(&weight)->fixed) continue;
    open.push_back(planned.at(&weight));
    budget += weight.rows() * row_bytes(*planned.at(&weight)->format, weight.columns());
    costs.push_back(&sensitivity.costs);
    std::vector<Choice>& choices = items.emplace_back();
    for (const FormatCost& cost : sensitivity.costs) {
      const bool fitted = rounding == Rounding::kFitted;
      const double error = fitted ? cost.fitted_error : cost.output_error;
      choices.push_back({cost.bytes, sensitivity.divergence_at(error)});
    }
  }
  const auto chosen = allocate(items, budget);
  for (size_t i = 0; i < chosen.size(); ++i) {
    open[i]->format = (*costs[i])[chosen[i]].format;
  }
  plan.bytes_out = gguf_file_bytes(plan.metadata, plan.tensors());
}

}  // namespace fewbits
