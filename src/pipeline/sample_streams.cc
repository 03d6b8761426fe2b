#include "pipeline/sample_streams.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "base/error.h"
#include "base/half.h"
#include "base/interrupt.h"
#include "calibrate/samples.h"
#include "calibrate/sites.h"
#include "engine/embedder.h"
#include "engine/engine.h"

namespace fewbits {
namespace {

size_t at(int64_t i) {
  return static_cast<size_t>(i);
}

ModelConfig with_one_layer(ModelConfig config) {
  config.layers = 1;
  return config;
}

}  // namespace

int64_t states_kept(const StreamOptions& options, bool reference) {
  constexpr int64_t kFollowing = 5, kBoth = 2;
  if (options.follow_outputs) return kFollowing;
  return reference ? kBoth : 1;
}

int64_t stream_buffer_bytes(const ModelConfig& config, int64_t longest) {
  const int64_t query = config.heads * config.head_dim, kv = config.kv_heads * config.head_dim;
  const int64_t ffn = std::max(config.ffn, config.expert_ffn);
  // A layer's own (LayerBuffers, KvCache in halves, cosines and sines), the sample's states as they
  // are read, moved on and aimed at, and the input of a site.
  const int64_t layer = 2 * config.hidden + 2 * query + 2 * kv + 2 * ffn + kv + config.head_dim;
  return longest * (layer + 4 * config.hidden + std::max(query, ffn)) *
         static_cast<int64_t>(sizeof(float));
}

SampleStreams::SampleStreams(const Model& model, const std::vector<std::vector<Token>>& samples,
                             const StreamOptions& options, ThreadPool& pool)
    : model_(model),
      samples_(samples),
      options_(options),
      pool_(pool),
      config_(with_one_layer(model.config)),
      rope_(rope_table(model, longest(samples))),
      cache_(config_, longest(samples)),
      buffers_(config_, longest(samples), pool.threads()) {
  rope_.prepare(0, longest(samples));
  for (int64_t i = 0; i < std::ssize(samples_); ++i) values_ += sample_values(i);
  embed();
}

void SampleStreams::embed() {
  const Embedder embedder(model_);
  rounded_ = new_store();
  int64_t begin = 0;
  for (const auto& sample : samples_) {
    hidden_.clear();
    embedder.embed(sample, hidden_);
    rounded_.write(begin, hidden_);
    begin += std::ssize(hidden_);
  }
}

/// Before the first layer, both streams are the embedded samples.
void SampleStreams::begin_reference() {
  check(layer_ == 0);
  reference_ = new_store();
  int64_t begin = 0;
  for (int64_t sample = 0; sample < std::ssize(samples_); ++sample) {
    reference_.write(begin, part(rounded_, begin, sample));
    begin += sample_values(sample);
  }
  if (!options_.follow_outputs) return;
  for (StateStore* store : {&middle_, &gate_input_, &next_}) *store = new_store();
}

int64_t SampleStreams::sample_values(int64_t sample) const {
  return static_cast<int64_t>(samples_[at(sample)].size()) * config_.hidden;
}

/// The states of a sample, which begin there.
std::vector<float> SampleStreams::part(const StateStore& states, int64_t begin,
                                       int64_t sample) const {
  std::vector<float> values(at(sample_values(sample)));
  states.read(begin, values);
  return values;
}

void SampleStreams::begin_sample(const StateStore& states, int64_t sample) {
  sample_ = sample;
  hidden_.resize(at(sample_values(sample)));
  states.read(sample_begin(sample), hidden_);
}

int64_t SampleStreams::sample_begin(int64_t sample) const {
  int64_t begin = 0;
  for (int64_t i = 0; i < sample; ++i) begin += sample_values(i);
  return begin;
}

std::vector<float> SampleStreams::input_of(int64_t sample) const {
  return part(rounded_, sample_begin(sample), sample);
}

std::vector<float> SampleStreams::reference_output_of(int64_t sample) const {
  return part(next_.empty() ? reference_ : next_, sample_begin(sample), sample);
}

std::vector<float> SampleStreams::output_of(int64_t sample, const LayerWeights& rounded) {
  begin_sample(rounded_, sample);
  forward(rounded, nullptr);
  return hidden_;
}

void SampleStreams::forward(const LayerWeights& weights, const SiteObserver* observer,
                            const ExpertObserver* expert_observer) {
  throw_if_interrupted();
  if (options_.waiting) options_.waiting();
  LayerContext context{config_, rope_, buffers_, pool_, observer, expert_observer};
  cache_.truncate(0);
  forward_layer(weights, hidden_, cache_.layer(0), context);
}

void SampleStreams::run_reference(const LayerWeights& original) {
  squares_.clear();
  if (reference_.empty()) begin_reference();
  StateStore& next = options_.follow_outputs ? next_ : reference_;
  int64_t begin = 0;
  const SiteObserver observer = [&](Role site, std::span<const float> input, int64_t tokens) {
    if (site == Role::kGate && options_.follow_outputs) {
      middle_.write(begin, hidden_);
      gate_input_.write(begin, input);
    }
    refuse_infinite(site, input);
    if (site == Role::kAttentionOutput || site == Role::kDown) add_squares(site, input, tokens);
    return true;
  };
  for (int64_t sample = 0; sample < std::ssize(samples_); ++sample) {
    begin_sample(reference_, sample);
    forward(original, &observer);
    next.write(begin, hidden_);
    begin += sample_values(sample);
  }
}

void SampleStreams::add_squares(Role site, std::span<const float> input, int64_t tokens) {
  const size_t columns = input.size() / at(tokens);
  std::vector<double>& sums = squares_[site];
  sums.resize(columns);
  for (int64_t t = 0; t < tokens; ++t) {
    const auto row = input.subspan(at(t) * columns, columns);
    for (size_t j = 0; j < columns; ++j) sums[j] += double{row[j]} * row[j];
  }
}

void SampleStreams::refuse_infinite(Role site, std::span<const float> input) const {
  double sum = 0;
  for (const float x : input) sum += std::abs(double{x});
  if (std::isfinite(sum)) return;
  throw Error(
      fmt::format("calibration: what {} is fed in sample {} is not finite; the 16-bit model "
                  "cannot be calibrated on this text",
                  site_name(site), sample_));
}

std::string SampleStreams::site_name(Role site) const {
  for (const Role role : readers_of(site)) {
    const Weight* weight = model_.find(role, layer_);
    if (weight != nullptr) return weight->gguf_name;
  }
  return fmt::format("layer {}", layer_);
}

SiteMoments SampleStreams::gather(Role role, int64_t columns, const LayerWeights& original,
                                  const LayerWeights& rounded) {
  SiteMoments moments;
  moments.role = role;
  moments.columns = columns;
  GramAccumulator gram(columns);
  const int64_t aims = moments.has_output() ? config_.hidden : columns;
  CrossAccumulator cross(options_.follow_outputs ? aims : 0, columns);
  InputObserver observer(options_.observer);
  std::vector<float> wanted;
  std::vector<double> sums(static_cast<size_t>(columns));
  int64_t begin = 0;
  const SiteObserver reference_input = [&](Role, std::span<const float> x, int64_t) {
    wanted.assign(x.begin(), x.end());
    return false;
  };
  const SiteObserver add = [&](Role reached, std::span<const float> x, int64_t tokens) {
    if (reached != role) return true;
    refuse_infinite(role, x);
    observer.add(x);
    for (size_t i = 0; i < x.size(); ++i) sums[i % sums.size()] += double{x[i]};
    gram.add(x.data(), tokens, pool_);
    if (!options_.follow_outputs) return false;
    if (moments.has_output()) {
      wanted_outputs(role, begin, rounded, wanted);
    } else {
      for (size_t i = 0; i < wanted.size(); ++i) wanted[i] -= x[i];
    }
    cross.add(wanted.data(), x.data(), tokens, pool_);
    return false;
  };
  for (int64_t sample = 0; sample < std::ssize(samples_); ++sample) {
    if (options_.follow_outputs && role == Role::kQuery) {
      begin_sample(reference_, sample);
      forward(original, &reference_input);
    } else if (options_.follow_outputs && role == Role::kGate) {
      wanted = part(gate_input_, begin, sample);
    }
    begin_sample(rounded_, sample);
    forward(rounded, &add);
    begin += sample_values(sample);
  }
  moments.largest = observer.range(*options_.observed);
  const auto tokens = static_cast<double>(gram.tokens());
  for (const double sum : sums) moments.mean.push_back(static_cast<float>(sum / tokens));
  moments.gram = gram.take_mean();
  if (options_.follow_outputs) moments.cross = cross.take_mean();
  return moments;
}

ExpertMoments SampleStreams::gather_experts(Role site, int64_t columns, const ExpertRange& range,
                                            const LayerWeights& rounded) {
  ExpertMoments moments;
  moments.tokens.resize(at(range.all));
  std::vector<double> squares(at(columns), 0.0);
  std::vector<GramAccumulator> grams(at(range.count), GramAccumulator(columns));
  const ExpertObserver add = [&](Role reached, int64_t expert, std::span<const float> x,
                                 int64_t tokens) {
    if (reached != site) return;
    refuse_infinite(site, x);
    moments.tokens[at(expert)] += tokens;
    for (size_t i = 0; i < x.size(); ++i) squares[i % at(columns)] += double{x[i]} * x[i];
    const int64_t index = expert - range.first;
    if (index >= 0 && index < range.count) grams[at(index)].add(x.data(), tokens, pool_);
  };
  for (int64_t sample = 0; sample < std::ssize(samples_); ++sample) {
    begin_sample(rounded_, sample);
    forward(rounded, nullptr, &add);
  }
  const double visits = std::accumulate(moments.tokens.begin(), moments.tokens.end(), 0.0);
  for (const double square : squares) {
    moments.means.push_back(static_cast<float>(square / std::max(visits, 1.0)));
  }
  for (GramAccumulator& gram : grams) {
    moments.grams.push_back(gram.tokens() > 0 ? gram.take_mean() : std::vector<float>());
  }
  return moments;
}

/// What a matrix should add to the residual stream: what leads to the 16-bit model's.
void SampleStreams::wanted_outputs(Role role, int64_t begin, const LayerWeights& rounded,
                                   std::vector<float>& wanted) const {
  const bool down = role == Role::kDown;
  const std::vector<float> after = part(down ? next_ : middle_, begin, sample_);
  const std::vector<float>& bias = down ? rounded.down_bias : rounded.attention_output_bias;
  const auto share = static_cast<float>(1 / config_.residual_scale);
  wanted.resize(hidden_.size());
  for (size_t i = 0; i < wanted.size(); ++i) {
    wanted[i] = (after[i] - hidden_[i]) * share;
    if (!bias.empty()) wanted[i] -= bias[i % bias.size()];
  }
}

/// By what the sample that went through last left in its cache.
void SampleStreams::widen(KvRange& range) {
  const LayerCache cache = cache_.layer(0);
  const int64_t tokens = std::ssize(hidden_) / config_.hidden;
  uint16_t largest_key = 0, largest_value = 0;  // halves without their sign are ordered as integers
  const auto wider = [](uint16_t& largest, uint16_t half) {
    largest = std::max(largest, static_cast<uint16_t>(half & 0x7fff));
  };
  for (int64_t head = 0; head < config_.kv_heads; ++head) {
    for (int64_t token = 0; token < tokens; ++token) {
      const uint16_t* key = cache.key(head, token);
      const uint16_t* value = cache.value(head, token);
      for (int64_t i = 0; i < cache.key_dim; ++i) wider(largest_key, key[i * kKeysPerGroup]);
      for (int64_t i = 0; i < cache.value_dim; ++i) wider(largest_value, value[i]);
    }
  }
  range.key = std::max(range.key, half_to_float(largest_key));
  range.value = std::max(range.value, half_to_float(largest_value));
}

KvRange SampleStreams::advance(const LayerWeights& rounded) {
  KvRange range;
  int64_t begin = 0;
  for (int64_t sample = 0; sample < std::ssize(samples_); ++sample) {
    begin_sample(rounded_, sample);
    forward(rounded, nullptr);
    widen(range);
    rounded_.write(begin, hidden_);
    begin += sample_values(sample);
  }
  if (!next_.empty()) std::swap(reference_, next_);
  ++layer_;
  return range;
}

}  // namespace fewbits
