#include "pipeline/tune.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <optional>
#include <random>

#include "base/checked_math.h"
#include "base/error.h"
#include "base/interrupt.h"
#include "engine/embedder.h"
#include "engine/engine.h"
#include "pipeline/certificate.h"
#include "pipeline/weights_behind.h"
#include "train/adam.h"
#include "train/block_scales.h"
#include "train/dense_layer.h"
#include "train/divergence_gradient.h"
#include "train/learned_rounding.h"

namespace fewbits {
namespace {

constexpr double kScaleShare = 0.02;

using Samples = std::vector<const std::vector<Token>*>;

/// Gains of a norm that may change, by factors as scales do.
struct TunedNorm {
  const Weight* weight;
  std::vector<float> original, log_factors, gradient;
  Adam adam;

  explicit TunedNorm(const Weight& of)
      : weight(&of),
        original(static_cast<size_t>(of.values())),
        log_factors(original.size()),
        gradient(original.size()),
        adam(original.size()) {
    of.read_row(0, original.data());
  }

  std::vector<float> values() const {
    std::vector<float> gains(original);
    for (size_t i = 0; i < gains.size(); ++i) gains[i] *= std::exp(log_factors[i]);
    return gains;
  }

  void add_gradient(const std::vector<float>& of_gains) {
    const std::vector<float> gains = values();
    for (size_t i = 0; i < gains.size(); ++i) gradient[i] += of_gains[i] * gains[i];
  }
};

struct TunedMatrix {
  BlockScales scales;
  Adam adam;
  std::optional<LearnedRounding> rounding = {};  ///< in place of scales, where codes learn too
  std::vector<std::byte> best = {};              ///< with rounding: what did best

  explicit TunedMatrix(const Weight& weight) : scales(weight), adam(scales.log_factors.size()) {}
};

std::vector<float> embed(const Model& model, const Samples& samples) {
  const Embedder embedder(model);
  std::vector<float> states;
  for (const auto* sample : samples) embedder.embed(*sample, states);
  return states;
}

bool is_tunable(const Weight& weight) {
  return weight.layer >= 0 && weight.is_matrix() && BlockScales::can_tune(weight.format());
}

/// Linear growth over the first twentieth, then half a cosine down to 0.
double share_of_rate(double done) {
  constexpr double kWarmUp = 0.05;
  if (done < kWarmUp) return done / kWarmUp;
  return 0.5 + 0.5 * std::cos(std::numbers::pi * (done - kWarmUp) / (1 - kWarmUp));
}

}  // namespace

struct Tuner::Impl {
  Impl(const Model& tuned, const Model& reference, ThreadPool& threads)
      : model(tuned),
        config(tuned.config),
        pool(threads),
        teacher(reference),
        output(tuned, threads),
        teacher_output(reference, threads),
        output_norm(*tuned.find(Role::kOutputNorm)) {
    for (const Weight& weight : model.weights) {
      const bool norm = weight.role == Role::kAttentionNorm || weight.role == Role::kMlpNorm;
      if (norm) norms.emplace(&weight, weight);
      if (is_tunable(weight)) {
        matrices.emplace(&weight, weight);
      }
    }
  }

  TuneResult run(const std::vector<std::vector<Token>>& samples, const TuneOptions& options,
                 const std::function<void(const TuneProgress&)>& progress);
  void begin_rounding();
  double held_out_divergence(const Samples& samples);
  double step(const Samples& samples, bool learn);
  std::vector<float> read_by_teacher(const Samples& samples, const DenseLayers& layers);
  double compare(const std::vector<float>& wanted, std::vector<float>& states, bool learn);
  void load(int64_t index);
  void learn_layer(int64_t index, DenseLayers& layers, std::vector<float>& gradient);
  void update(double rate, int step);
  void zero_gradients();
  std::vector<std::vector<float>> parameters();
  void restore(const std::vector<std::vector<float>>& saved);

  /// body(log factors, gradient, optimizer) of everything that is tuned.
  template <class Body>
  void each(const Body& body) {
    for (auto& [weight, matrix] : matrices) {
      body(matrix.scales.log_factors, matrix.scales.gradient, matrix.adam);
    }
    for (auto& [weight, norm] : norms) body(norm.log_factors, norm.gradient, norm.adam);
    body(output_norm.log_factors, output_norm.gradient, output_norm.adam);
  }

  const Model& model;
  const ModelConfig& config;
  ThreadPool& pool;
  const Model& teacher;
  OutputLayer output, teacher_output;
  TunedNorm output_norm;
  std::map<const Weight*, TunedMatrix> matrices;
  std::map<const Weight*, TunedNorm> norms;
  DenseLayer layer;
  LayerTape tape;
  std::optional<RopeTable> rope;
  std::vector<std::vector<float>> inputs;  ///< of each layer
  std::vector<std::byte> bytes;            ///< encoded last
  RoundingRates rates = {};                ///< of the step
};

std::string why_not_tunable(const Model& model, const Model& reference) {
  const ModelConfig &a = model.config, &b = reference.config;
  if (a.hidden != b.hidden || a.layers != b.layers || a.heads != b.heads ||
      a.vocabulary != b.vocabulary) {
    return "the two models have different shapes";
  }
  if (model.architecture != reference.architecture) return "they have different architectures";
  if (std::none_of(model.weights.begin(), model.weights.end(), is_tunable)) {
    return "nothing in it has block scales";
  }
  const std::string reason = why_not_trainable(model);
  return reason.empty() ? why_not_trainable(reference) : reason;
}

Tuner::Tuner(const Model& model, const Model& reference, ThreadPool& pool)
    : impl_(std::make_unique<Impl>(model, reference, pool)) {}
Tuner::~Tuner() = default;

TuneResult Tuner::run(const std::vector<std::vector<Token>>& samples, const TuneOptions& options,
                      const std::function<void(const TuneProgress&)>& progress) {
  return impl_->run(samples, options, progress);
}

/// Final hidden states of the 16-bit model.
std::vector<float> Tuner::Impl::read_by_teacher(const Samples& samples, const DenseLayers& layers) {
  std::vector<float> states = embed(teacher, samples);
  for (int64_t i = 0; i < config.layers; ++i) {
    throw_if_interrupted();
    load_dense_layer(teacher, i, {}, layer, pool);
    layers.forward(layer, states, tape);
  }
  const std::vector<float> gains = load_values(teacher, Role::kOutputNorm);
  rms_forward(gains, config.norm_epsilon, states, states.data(), pool);
  return states;
}

void Tuner::Impl::load(int64_t index) {
  load_dense_layer(
      model, index,
      [&](const Weight& weight, std::vector<float>& values) {
        const auto tuned = matrices.find(&weight);
        if (tuned == matrices.end()) return false;
        const auto& [weight_scales, adam, rounding, best] = tuned->second;
        rounding ? rounding->values(values, pool) : weight_scales.values(values, pool);
        return true;
      },
      layer, pool);
  layer.attention_norm = norms.at(model.find(Role::kAttentionNorm, index)).values();
  layer.mlp_norm = norms.at(model.find(Role::kMlpNorm, index)).values();
}

/// Sum of divergences; `states` before the output norm become their gradient.
double Tuner::Impl::compare(const std::vector<float>& wanted, std::vector<float>& states,
                            bool learn) {
  constexpr int64_t kRows = 512;  // whose logits exist at a time
  const int64_t width = config.hidden, rows = std::ssize(states) / width;
  const std::vector<float> gains = output_norm.values();
  std::vector<float> normed(states.size()), gradient(states.size()), logits;
  rms_forward(gains, config.norm_epsilon, states, normed.data(), pool);
  double sum = 0;
  for (int64_t begin = 0; begin < rows; begin += kRows) {
    const int64_t count = std::min(kRows, rows - begin);
    const auto first = static_cast<size_t>(begin * width);
    teacher_output.logits(wanted.data() + first, count, logits);
    sum += output.divergence(normed.data() + first, count, logits,
                             learn ? gradient.data() + first : nullptr);
  }
  if (!learn) return sum;
  for (float& value : gradient) value /= static_cast<float>(rows);
  std::vector<float> back(states.size());
  output_norm.add_gradient(
      rms_backward(gains, config.norm_epsilon, states, gradient.data(), back.data()));
  states = std::move(back);
  return sum;
}

void Tuner::Impl::learn_layer(int64_t index, DenseLayers& layers, std::vector<float>& gradient) {
  load(index);
  layers.forward(layer, inputs[static_cast<size_t>(index)], tape);
  LayerGradients gradients;
  gradients.matrix = [&](Role role, std::span<const float> of_values) {
    const auto tuned = matrices.find(model.find(role, index));
    if (tuned == matrices.end()) return;
    if (tuned->second.rounding) return tuned->second.rounding->learn(of_values, rates, pool);
    tuned->second.scales.add_gradient(of_values, *layer.matrix(role), pool);
  };
  layers.backward(layer, tape, gradient, gradients);
  norms.at(model.find(Role::kAttentionNorm, index)).add_gradient(gradients.attention_norm);
  norms.at(model.find(Role::kMlpNorm, index)).add_gradient(gradients.mlp_norm);
}

/// Divergence per token of the samples; with `learn` also the gradients.
double Tuner::Impl::step(const Samples& samples, bool learn) {
  const Batch batch{std::ssize(samples), std::ssize(*samples.front())};
  DenseLayers layers(config, *rope, batch, pool);
  const std::vector<float> wanted = read_by_teacher(samples, layers);
  std::vector<float> states = embed(model, samples);
  inputs.resize(static_cast<size_t>(config.layers));
  for (int64_t i = 0; i < config.layers; ++i) {
    throw_if_interrupted();
    if (learn) inputs[static_cast<size_t>(i)] = states;
    load(i);
    layers.forward(layer, states, tape);
  }
  const double sum = compare(wanted, states, learn);
  if (learn) {
    for (int64_t i = config.layers; i-- > 0;) {
      throw_if_interrupted();
      learn_layer(i, layers, states);
    }
  }
  return sum / static_cast<double>(batch.tokens());
}

double Tuner::Impl::held_out_divergence(const Samples& samples) {
  double sum = 0;
  for (const auto* sample : samples) sum += step({sample}, false);
  return sum / static_cast<double>(samples.size());
}

/// Codes learn from what the 16-bit model's weights must have been when they were rounded.
void Tuner::Impl::begin_rounding() {
  for (auto& [weight, matrix] : matrices) {
    throw_if_interrupted();
    const Weight* original = teacher.find(weight->role, weight->layer);
    check(original != nullptr && original->shape == weight->shape);
    std::vector<std::byte> stored, scratch;
    for (int64_t i = 0; i < weight->rows(); ++i) {
      const int64_t row = weight->gguf_rows.empty() ? i : weight->gguf_rows[static_cast<size_t>(i)];
      const auto bytes_of_row = weight->row_bytes(row, scratch);
      stored.insert(stored.end(), bytes_of_row.begin(), bytes_of_row.end());
    }
    matrix.rounding.emplace(weight->format(), weight->columns(),
                            weights_behind(*weight, *original, pool), stored, weight->gguf_rows);
  }
}

void Tuner::Impl::zero_gradients() {
  each([](auto&, std::vector<float>& gradient, auto&) {
    std::fill(gradient.begin(), gradient.end(), 0.0f);
  });
}

void Tuner::Impl::update(double rate, int step) {
  each([&](std::vector<float>& factors, const std::vector<float>& gradient, Adam& adam) {
    adam.update(factors, gradient, rate, step);
  });
}

std::vector<std::vector<float>> Tuner::Impl::parameters() {
  std::vector<std::vector<float>> all;
  each([&](const std::vector<float>& factors, auto&, auto&) { all.push_back(factors); });
  for (auto& [weight, matrix] : matrices) {
    if (matrix.rounding) matrix.best = matrix.rounding->bytes(pool);
  }
  return all;
}

void Tuner::Impl::restore(const std::vector<std::vector<float>>& saved) {
  auto next = saved.begin();
  each([&](std::vector<float>& factors, auto&, auto&) { factors = *next++; });
}

TuneResult Tuner::Impl::run(const std::vector<std::vector<Token>>& samples,
                            const TuneOptions& options,
                            const std::function<void(const TuneProgress&)>& progress) {
  const auto every = static_cast<size_t>(std::max(2.0, std::round(1 / options.held_out)));
  Samples trained, held_out;
  for (size_t i = 0; i < samples.size(); ++i) {
    (i % every == every - 1 ? held_out : trained).push_back(&samples[i]);
  }
  if (held_out.empty()) throw Error("tune: too few samples to hold any out; give more text");
  rope.emplace(rope_table(model, std::ssize(*trained.front())));
  rope->prepare(0, std::ssize(*trained.front()));

  if (options.place_rate > 0) begin_rounding();

  std::mt19937 random(1);
  const int64_t steps_of_epoch = divide_up(std::ssize(trained), options.batch);
  TuneResult result;
  result.before = result.after = held_out_divergence(held_out);
  std::vector<std::vector<float>> best = parameters();
  const auto keep_if_better = [&] {
    const double now = held_out_divergence(held_out);
    if (now >= result.after) return;
    result.after = now;
    best = parameters();
  };
  const int64_t steps = steps_of_epoch * options.epochs;
  for (int64_t step_index = 0; step_index < steps; ++step_index) {
    const double over = options.time_over ? options.time_over() : 0;
    const double done = (static_cast<double>(step_index) + 0.5) / static_cast<double>(steps);
    if (over >= 1) break;
    const int64_t first = step_index % steps_of_epoch * options.batch;
    if (first == 0) std::shuffle(trained.begin(), trained.end(), random);
    const int64_t end = std::min(first + options.batch, std::ssize(trained));
    zero_gradients();
    const Samples chosen(trained.begin() + first, trained.begin() + end);
    const double share = share_of_rate(std::max(done, over));
    rates = {static_cast<float>(options.place_rate * share),
             static_cast<float>(options.place_rate * kScaleShare * share)};
    const double divergence = step(chosen, true);
    result.tokens += std::ssize(chosen) * std::ssize(*chosen.front());
    update(options.learning_rate * share, static_cast<int>(step_index) + 1);
    progress({step_index + 1, steps, divergence});
    result.steps = step_index + 1;
    if (result.steps % steps_of_epoch == 0) keep_if_better();
  }
  if (result.steps % steps_of_epoch != 0) keep_if_better();
  restore(best);
  return result;
}

RoundedWeight Tuner::encoded(const Weight& weight) {
  const auto matrix = impl_->matrices.find(&weight);
  const auto norm = impl_->norms.find(&weight);
  if (matrix != impl_->matrices.end() && matrix->second.rounding) {
    impl_->bytes = matrix->second.best;
  } else if (matrix != impl_->matrices.end()) {
    impl_->bytes = matrix->second.scales.bytes();
  } else if (norm != impl_->norms.end() || impl_->output_norm.weight == &weight) {
    const TunedNorm& tuned = norm != impl_->norms.end() ? norm->second : impl_->output_norm;
    const std::vector<float> values = tuned.values();
    impl_->bytes.resize(static_cast<size_t>(row_bytes(weight.format(), weight.columns())));
    encode_rows(weight.format(), values.data(), 1, weight.columns(), nullptr, Search::kBest,
                impl_->bytes.data());
  } else {
    return {};
  }
  return {.bytes = impl_->bytes};
}

QuantizePlan plan_copy(const Model& model) {
  QuantizePlan plan;
  for (const Weight& weight : model.weights) plan.weights.push_back({&weight, &weight.format()});
  plan.metadata = gguf_metadata(model);
  plan.metadata.erase(kCertificateKey);
  plan.bytes_out = gguf_file_bytes(plan.metadata, plan.tensors());
  return plan;
}

}  // namespace fewbits
