#include "pipeline/tune.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <optional>
#include <random>

#include "base/checked_math.h"
#include "base/error.h"
#include "base/interrupt.h"
#include "base/memory.h"
#include "calibrate/samples.h"
#include "engine/embedder.h"
#include "engine/engine.h"
#include "pipeline/certificate.h"
#include "train/adam.h"
#include "train/block_scales.h"
#include "train/dense_layer.h"
#include "train/divergence_gradient.h"

namespace fewbits {
namespace {

constexpr int64_t kLogitRows = 256;  // whose logits exist at a time

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

  explicit TunedMatrix(const Weight& weight) : scales(weight), adam(scales.log_factors.size()) {}
};

bool is_tunable(const Weight& weight) {
  return weight.layer >= 0 && weight.is_matrix() && BlockScales::can_tune(weight.format());
}

struct SplitSamples {
  Samples trained, held_out;
};

SplitSamples split(const std::vector<std::vector<Token>>& samples, double share) {
  const SampleSplit indices = split_samples(std::ssize(samples), share);
  if (indices.held_out.empty())
    throw Error("tune: too few samples: one alone cannot be held out as well");
  const auto chosen = [&](const std::vector<int64_t>& some) {
    Samples result;
    for (const int64_t i : some) result.push_back(&samples[static_cast<size_t>(i)]);
    return result;
  };
  return {chosen(indices.learned), chosen(indices.held_out)};
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
  double step(const Samples& samples, bool learn);
  double read(const std::vector<Token>& sample, int64_t learning);
  std::vector<float> read_by_teacher(const std::vector<Token>& sample, const DenseLayers& layers);
  double compare(const std::vector<float>& wanted, std::vector<float>& states, int64_t learning);
  void load(int64_t index);
  void learn_layer(int64_t index, DenseLayers& layers, std::vector<float>& gradient);
  void update(double rate, int step);
  void zero_gradients();
  std::vector<std::vector<float>> parameters();
  void copy_parameters(std::vector<std::vector<float>>& to);
  void restore(const std::vector<std::vector<float>>& saved);
  std::vector<std::span<float>> arrays(std::vector<std::vector<float>>& best);

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

std::string why_never_tunable(const Model& reference) {
  return why_not_trainable(reference);
}

int64_t tuning_memory(const Model& model, int64_t length) {
  constexpr int64_t kHeldForEach =
      5;  // what is tuned, the best so far, gradient and its two moments
  constexpr int64_t kSmallBlock = 32;
  const ModelConfig& config = model.config;
  int64_t tuned = 0, layer = 0, of_token = 0;
  for (const Weight& weight : model.weights) {
    if (is_tunable(weight)) {
      tuned += BlockScales::count(weight);
    } else if (weight.layer >= 0 && weight.is_matrix()) {
      tuned += weight.values() / kSmallBlock;
    }
    if (weight.layer != 0 || !weight.is_matrix()) continue;
    layer += weight.values();
    of_token += weight.rows() + weight.columns();
  }
  const int64_t inputs = config.layers * length * config.hidden;
  const int64_t tape = 2 * length * of_token;  // values there, gradients back
  const int64_t logits = 2 * kLogitRows * config.vocabulary;
  const int64_t floats = kHeldForEach * tuned + 2 * layer + inputs + tape + logits;
  return resident_memory_bytes() + floats * static_cast<int64_t>(sizeof(float));
}

Tuner::Tuner(const Model& model, const Model& reference, ThreadPool& pool)
    : impl_(std::make_unique<Impl>(model, reference, pool)) {}
Tuner::~Tuner() = default;

TuneResult Tuner::run(const std::vector<std::vector<Token>>& samples, const TuneOptions& options,
                      const std::function<void(const TuneProgress&)>& progress) {
  return impl_->run(samples, options, progress);
}

/// Final hidden states of the 16-bit model.
std::vector<float> Tuner::Impl::read_by_teacher(const std::vector<Token>& sample,
                                                const DenseLayers& layers) {
  std::vector<float> states;
  Embedder(teacher).embed(sample, states);
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
        tuned->second.scales.values(values, pool);
        weight.drop_pages();
        return true;
      },
      layer, pool);
  layer.attention_norm = norms.at(model.find(Role::kAttentionNorm, index)).values();
  layer.mlp_norm = norms.at(model.find(Role::kMlpNorm, index)).values();
}

/// Sum of divergences; with `learning`, the tokens of the step, `states` before the output norm
/// become the gradient of their mean.
double Tuner::Impl::compare(const std::vector<float>& wanted, std::vector<float>& states,
                            int64_t learning) {
  const int64_t width = config.hidden, rows = std::ssize(states) / width;
  const std::vector<float> gains = output_norm.values();
  std::vector<float> normed(states.size()), gradient(states.size()), logits;
  rms_forward(gains, config.norm_epsilon, states, normed.data(), pool);
  double sum = 0;
  for (int64_t begin = 0; begin < rows; begin += kLogitRows) {
    const int64_t count = std::min(kLogitRows, rows - begin);
    const auto first = static_cast<size_t>(begin * width);
    teacher_output.logits(wanted.data() + first, count, logits);
    sum += output.divergence(normed.data() + first, count, logits,
                             learning > 0 ? gradient.data() + first : nullptr);
  }
  if (learning == 0) return sum;
  for (float& value : gradient) value /= static_cast<float>(learning);
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
    tuned->second.scales.add_gradient(of_values, *layer.matrix(role), pool);
    tuned->first->drop_pages();
  };
  layers.backward(layer, tape, gradient, gradients);
  norms.at(model.find(Role::kAttentionNorm, index)).add_gradient(gradients.attention_norm);
  norms.at(model.find(Role::kMlpNorm, index)).add_gradient(gradients.mlp_norm);
}

/// The sum of divergences of one sample; with `learning`, the tokens of the step, adds the
/// gradients of their mean. One sample at a time, so that what must be kept for the way back is
/// small.
double Tuner::Impl::read(const std::vector<Token>& sample, int64_t learning) {
  DenseLayers layers(config, *rope, {1, std::ssize(sample)}, pool);
  const std::vector<float> wanted = read_by_teacher(sample, layers);
  std::vector<float> states;
  Embedder(model).embed(sample, states);
  inputs.resize(static_cast<size_t>(config.layers));
  for (int64_t i = 0; i < config.layers; ++i) {
    throw_if_interrupted();
    if (learning > 0) inputs[static_cast<size_t>(i)] = states;
    load(i);
    layers.forward(layer, states, tape);
  }
  const double sum = compare(wanted, states, learning);
  if (learning == 0) return sum;
  for (int64_t i = config.layers; i-- > 0;) {
    throw_if_interrupted();
    learn_layer(i, layers, states);
  }
  return sum;
}

/// Divergence per token of the samples; with `learn` also the gradients.
double Tuner::Impl::step(const Samples& samples, bool learn) {
  const int64_t tokens = std::ssize(samples) * std::ssize(*samples.front());
  double sum = 0;
  for (const auto* sample : samples) sum += read(*sample, learn ? tokens : 0);
  return sum / static_cast<double>(tokens);
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
  return all;
}

void Tuner::Impl::copy_parameters(std::vector<std::vector<float>>& to) {
  auto next = to.begin();
  each([&](const std::vector<float>& factors, auto&, auto&) {
    std::ranges::copy(factors, (next++)->begin());
  });
}

void Tuner::Impl::restore(const std::vector<std::vector<float>>& saved) {
  auto next = saved.begin();
  each([&](std::vector<float>& factors, auto&, auto&) { factors = *next++; });
}

/// Everything that a later run must know to go on.
std::vector<std::span<float>> Tuner::Impl::arrays(std::vector<std::vector<float>>& best) {
  std::vector<std::span<float>> all(best.begin(), best.end());
  each([&](std::vector<float>& factors, auto&, Adam& adam) {
    all.insert(all.end(), {factors, adam.mean(), adam.square()});
  });
  return all;
}

TuneResult Tuner::Impl::run(const std::vector<std::vector<Token>>& samples,
                            const TuneOptions& options,
                            const std::function<void(const TuneProgress&)>& progress) {
  SplitSamples parts = split(samples, options.held_out);
  Samples &trained = parts.trained, &held_out = parts.held_out;
  rope.emplace(rope_table(model, std::ssize(*trained.front())));
  rope->prepare(0, std::ssize(*trained.front()));

  std::vector<std::vector<float>> best = parameters();
  TuningState state{.arrays = arrays(best)};
  const bool goes_on = options.load && options.load(state);
  if (!goes_on) state.before = state.after = step(held_out, false);
  const auto keep_if_better = [&] {
    const double now = step(held_out, false);
    if (now >= state.after) return;
    state.after = now;
    copy_parameters(best);
  };
  std::mt19937 random(1);
  const auto shuffle = [&] { std::shuffle(trained.begin(), trained.end(), random); };
  const int64_t steps_of_epoch = divide_up(std::ssize(trained), options.batch);
  for (int64_t i = 0; i < state.steps; i += steps_of_epoch) shuffle();  // as the run before did
  const int64_t steps = steps_of_epoch * options.epochs;
  while (state.steps < steps) {
    const double over = options.time_over ? options.time_over() : 0;
    const double done = (static_cast<double>(state.steps) + 0.5) / static_cast<double>(steps);
    if (over >= 1) break;
    const int64_t first = state.steps % steps_of_epoch * options.batch;
    if (first == 0) shuffle();
    const int64_t end = std::min(first + options.batch, std::ssize(trained));
    zero_gradients();
    const Samples chosen(trained.begin() + first, trained.begin() + end);
    const double divergence = step(chosen, true);
    ++state.steps;
    state.tokens += std::ssize(chosen) * std::ssize(*chosen.front());
    update(options.learning_rate * share_of_rate(std::max(done, over)),
           static_cast<int>(state.steps));
    progress({state.steps, steps, divergence});
    if (state.steps % steps_of_epoch == 0) keep_if_better();
    if (options.save) options.save(state);
  }
  if (state.steps % steps_of_epoch != 0) keep_if_better();
  restore(best);
  return {state.before, state.after, state.steps, state.tokens};
}

RoundedWeight Tuner::encoded(const Weight& weight) {
  const auto matrix = impl_->matrices.find(&weight);
  const auto norm = impl_->norms.find(&weight);
  if (matrix != impl_->matrices.end()) {
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
