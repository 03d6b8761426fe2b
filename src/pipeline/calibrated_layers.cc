#include "pipeline/calibrated_layers.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>
#include <numeric>
#include <utility>

#include "base/checked_math.h"
#include "base/error.h"
#include "calibrate/samples.h"
#include "calibrate/sites.h"
#include "engine/engine.h"
#include "pipeline/layer_biases.h"
#include "pipeline/scale_search.h"

namespace fewbits {
namespace {

constexpr int64_t kRowsPerTask = 32;  // where they are only read

size_t at(int64_t i) {
  return static_cast<size_t>(i);
}

/// Where each of our rows lies in GGUF's order: the inverse of gguf_rows.
std::vector<int32_t> inverse(const std::vector<int32_t>& rows) {
  std::vector<int32_t> result(rows.size());
  for (size_t i = 0; i < rows.size(); ++i)
    result[static_cast<size_t>(rows[i])] = static_cast<int32_t>(i);
  return result;
}

/// The value head's row whose output is column j of what attention output reads.
int64_t value_row(const ModelConfig& config, int64_t j) {
  const int64_t dim = config.head_dim, group = config.heads / config.kv_heads;
  return j / dim / group * dim + j % dim;
}

/// The moments around the mean: what is lost there, biases make up for.
void subtract_mean(SiteMoments& moments) {
  const size_t n = moments.mean.size();
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j < n; ++j) moments.gram[i * n + j] -= moments.mean[i] * moments.mean[j];
  }
}

/// Puts the columns first whose inputs are the largest. Returns which each was.
std::vector<int32_t> sort_by_use(SiteMoments& moments) {
  const size_t n = at(moments.columns);
  check(moments.cross.empty());
  std::vector<int32_t> order(n);
  std::iota(order.begin(), order.end(), 0);
  const auto use = [&](int32_t i) { return moments.gram[at(i) * n + at(i)]; };
  std::ranges::stable_sort(order, [&](int32_t a, int32_t b) { return use(a) > use(b); });
  std::vector<float> sorted(n * n);
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j < n; ++j)
      sorted[i * n + j] = moments.gram[at(order[i]) * n + at(order[j])];
  }
  moments.gram = std::move(sorted);
  return order;
}

}  // namespace

CalibratedLayers::CalibratedLayers(const Model& model,
                                   const std::map<const Weight*, const Format*>& formats,
                                   std::vector<std::vector<Token>> samples,
                                   const CalibrationOptions& options, ThreadPool& pool)
    : model_(model),
      formats_(formats),
      samples_(std::move(samples)),
      options_(options),
      pool_(pool),
      streams_(model, samples_, streams_fitting(options.streams, model), pool),
      experts_(model, formats, {options.gptq, options.hessian, options.progress}, pool) {
  options_.streams = streams_fitting(options.streams, model);
  options_.hessian.tokens = tokens_in(samples_);
}

const Format* CalibratedLayers::rounded_format(const Weight& weight) const {
  const Format* format = formats_.at(&weight);
  if (!weight.is_matrix()) return nullptr;
  if (format->is_float()) return options_.scale_floats ? format : nullptr;
  if (!format->can_encode()) return nullptr;
  return format == &weight.format() ? nullptr : format;  // run_quantize keeps such bytes
}

bool CalibratedLayers::rounded(Role role) const {
  const Weight* weight = find(role);
  return weight != nullptr && rounded_format(*weight) != nullptr;
}

std::vector<const Weight*> CalibratedLayers::rounded_readers(Role site) const {
  std::vector<const Weight*> weights;
  for (const Role role : readers_of(site)) {
    if (rounded(role)) weights.push_back(find(role));
  }
  return weights;
}

void CalibratedLayers::encode_layer(int64_t layer) {
  check(layer == layers_done_);
  encoded_.clear();
  refuse_broken_weights(layer);
  const LayerWeights original = run_reference(layer);
  LayerWeights weights = load_layer(model_, layer, {.float_math = true}, pool_);
  row_scales_.clear();
  if (scales()) {
    scale_rows_of_value();
    scale_rows_of_up();
  }
  for (const Role site : kSitesOfLayer) encode_site(site, original, weights);
  experts_.encode_layer(layer, streams_, weights);
  if (options_.learning.wanted()) learn(weights);
  kv_range_ = streams_.advance(weights);
  ++layers_done_;
}

/// Before any state is computed with them: else what is named is what reads the state.
void CalibratedLayers::refuse_broken_weights(int64_t layer) const {
  for (const Weight& weight : model_.weights) {
    if (weight.layer != layer) continue;
    const int64_t rows = weight.rows();
    pool_.run(divide_up(rows, kRowsPerTask), [&](int64_t task, int) {
      std::vector<float> values(at(weight.columns()));
      const int64_t end = std::min(rows, (task + 1) * kRowsPerTask);
      for (int64_t row = task * kRowsPerTask; row < end; ++row) {
        weight.read_row(row, values.data());
        for (size_t j = 0; j < values.size(); ++j) {
          if (std::isfinite(values[j])) continue;
          throw Error(fmt::format(
              "tensor '{}': row {} column {} is {}; a model with such weights is broken",
              weight.tensor->name, row, j, values[j]));
        }
      }
    });
    weight.drop_pages();
  }
}

/// Returns the layer's own weights where they are needed once more.
LayerWeights CalibratedLayers::run_reference(int64_t layer) {
  if (!needs_reference()) return {};
  LayerWeights original = load_layer(model_, layer, {.float_math = true}, pool_);
  streams_.run_reference(original);
  return options_.streams.follow_outputs ? std::move(original) : LayerWeights();
}

void CalibratedLayers::restore_layer(int64_t layer, const RoundedBefore& before) {
  check(layer == layers_done_);
  encoded_.clear();
  run_reference(layer);
  LayerWeights weights = load_layer(model_, layer, {.float_math = true}, pool_);
  for (const Role site : kSitesOfLayer) {
    if (site == Role::kQuery || site == Role::kGate) restore_gains(site, before, weights);
    for (const Weight* weight : rounded_readers(site)) {
      const RoundedWeight found = before(*weight);
      EncodedMatrix& encoded = encoded_[weight];
      encoded.bytes.assign(found.bytes.begin(), found.bytes.end());
      encoded.columns.assign(found.columns.begin(), found.columns.end());
      replace(*weight, weights);
    }
    restore_biases(site, before, weights);
  }
  experts_.restore_layer(layer, before, weights);
  kv_range_ = streams_.advance(weights);
  ++layers_done_;
}

void CalibratedLayers::restore_gains(Role site, const RoundedBefore& before,
                                     LayerWeights& weights) {
  if (!scales() || rounded_readers(site).empty() || !norm_can_scale(site)) return;
  const bool query = site == Role::kQuery;
  const auto found = before(*find(query ? Role::kAttentionNorm : Role::kMlpNorm)).bytes;
  std::vector<float>& gains = query ? weights.attention_norm.gain : weights.mlp_norm.gain;
  check(found.size() == gains.size() * sizeof(float));
  std::memcpy(gains.data(), found.data(), found.size());
}

/// Null where the matrix has no bias, or none that may change.
const Weight* CalibratedLayers::corrected_bias(const Weight& weight) const {
  const bool other_aims =
      options_.sort_columns || options_.streams.follow_outputs || options_.learning.wanted();
  if (!options_.correct_biases || other_aims || rounded_format(weight)->is_float()) return nullptr;
  const Weight* bias = find(bias_of(weight.role));
  const bool own = weight.role == Role::kDown || bias_of(weight.role) != Role::kDownBias;
  return bias != nullptr && own && formats_.at(bias)->name == "F32" ? bias : nullptr;
}

void CalibratedLayers::correct_bias(const Weight& weight, const MatrixRounding& rounding,
                                    LayerWeights& weights) {
  const Weight* bias = corrected_bias(weight);
  if (bias == nullptr) return;
  const std::vector<float> lost = rounding.lost_means(encoded_.at(&weight).bytes);
  EncodedMatrix& encoded = encoded_[bias];
  std::vector<float> all;
  for (std::vector<float>* part : bias_parts(bias->role, weights)) {
    for (float& value : *part) {
      encoded.square += double{value} * value;
      value += lost[all.size()];
      encoded.error += double{lost[all.size()]} * lost[all.size()];
      all.push_back(value);
    }
  }
  const auto bytes = std::as_bytes(std::span(all));
  encoded.bytes.assign(bytes.begin(), bytes.end());
}

void CalibratedLayers::restore_biases(Role site, const RoundedBefore& before,
                                      LayerWeights& weights) {
  for (const Weight* weight : rounded_readers(site)) {
    const Weight* bias = corrected_bias(*weight);
    if (bias == nullptr) continue;
    auto found = before(*bias).bytes;
    for (std::vector<float>* part : bias_parts(bias->role, weights)) {
      const size_t size = part->size() * sizeof(float);
      check(found.size() >= size);
      std::memcpy(part->data(), found.data(), size);
      found = found.subspan(size);
    }
  }
}

// Value and up are rounded before what reads them, so the scales of those columns come from the
// 16-bit model's inputs.

void CalibratedLayers::scale_rows_of_value() {
  const bool possible =
      rounded(Role::kValue) && rounded(Role::kAttentionOutput) && find(Role::kValueBias) == nullptr;
  if (!possible) return;
  const Weight& reader = *find(Role::kAttentionOutput);
  ScaleSearch search{.readers = {{&reader, rounded_format(reader)}},
                     .inputs = streams_.squares(Role::kAttentionOutput)};
  for (int64_t j = 0; j < reader.columns(); ++j) {  // heads that share a value share its scales
    search.scale_of_column.push_back(static_cast<int32_t>(value_row(streams_.config(), j)));
  }
  row_scales_[Role::kValue] = choose_scales(search, options_.scaling, pool_);
}

void CalibratedLayers::scale_rows_of_up() {
  const bool possible = rounded(Role::kUp) && rounded(Role::kDown) &&
                        find(Role::kGate) != nullptr && find(Role::kUpBias) == nullptr;
  if (!possible) return;
  const Weight& reader = *find(Role::kDown);
  row_scales_[Role::kUp] = choose_scales(
      {.readers = {{&reader, rounded_format(reader)}}, .inputs = streams_.squares(Role::kDown)},
      options_.scaling, pool_);
}

/// The scales that the inputs of attention output and down already have.
std::vector<float> CalibratedLayers::scales_of_columns(Role site) const {
  const auto found = row_scales_.find(site == Role::kDown ? Role::kUp : Role::kValue);
  if (found == row_scales_.end()) return {};
  if (site == Role::kDown) return found->second;
  std::vector<float> scales(at(find(site)->columns()));
  for (int64_t j = 0; j < std::ssize(scales); ++j) {
    scales[at(j)] = found->second[at(value_row(streams_.config(), j))];
  }
  return scales;
}

std::span<const float> CalibratedLayers::scales_of_rows(Role role) const {
  const auto found = row_scales_.find(role);
  return found == row_scales_.end() ? std::span<const float>() : found->second;
}

/// Whether the norm before a site feeds nothing but matrices that are rounded here.
bool CalibratedLayers::norm_can_scale(Role site) const {
  const bool query = site == Role::kQuery;
  if (!query && site != Role::kGate) return false;
  const Weight* norm = find(query ? Role::kAttentionNorm : Role::kMlpNorm);
  const bool apart = find(Role::kAttentionNorm) != nullptr && find(Role::kMlpNorm) != nullptr;
  if (norm == nullptr || !apart || find(Role::kRouter) != nullptr) return false;
  if (find(query ? Role::kAttentionNormBias : Role::kMlpNormBias) != nullptr) return false;
  if (formats_.at(norm)->name != "F32") return false;
  const std::vector<Role> readers = readers_of(site);
  return std::all_of(readers.begin(), readers.end(),
                     [&](Role role) { return find(role) == nullptr || rounded(role); });
}

/// Chooses scales for the columns that read a norm, and moves them into its gains and the moments.
std::vector<float> CalibratedLayers::scale_norm(SiteMoments& moments, LayerWeights& weights) {
  if (!scales() || !norm_can_scale(moments.role)) return {};
  const size_t n = at(moments.columns);
  ScaleSearch search{.gram = moments.gram};
  for (size_t j = 0; j < n; ++j) search.inputs.push_back(double{moments.gram[j * n + j]});
  for (const Weight* weight : rounded_readers(moments.role)) {
    search.readers.push_back({weight, rounded_format(*weight)});
  }
  const std::vector<float> scales = choose_scales(search, options_.scaling, pool_);
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j < n; ++j) {
      const float share = 1 / (scales[i] * scales[j]);
      moments.gram[i * n + j] *= share;
      if (!moments.cross.empty()) moments.cross[i * n + j] *= share;
    }
    moments.mean[i] /= scales[i];
  }
  const bool query = moments.role == Role::kQuery;
  std::vector<float>& gains = query ? weights.attention_norm.gain : weights.mlp_norm.gain;
  for (size_t j = 0; j < n; ++j) gains[j] /= scales[j];
  const Weight* norm = find(query ? Role::kAttentionNorm : Role::kMlpNorm);
  EncodedMatrix& encoded = encoded_[norm];
  encoded.bytes.resize(n * sizeof(float));
  std::memcpy(encoded.bytes.data(), gains.data(), encoded.bytes.size());
  for (const float gain : gains) encoded.square += double{gain} * gain;
  return scales;
}

/// All weights are alike then, and round to nearest.
void CalibratedLayers::warn_of_nothing(const Weight& reader, const SiteMoments& moments) {
  for (int64_t j = 0; j < moments.columns; ++j) {
    if (moments.gram[at(j * moments.columns + j)] != 0) return;
  }
  warnings_.push_back(
      fmt::format("{}: its inputs are always zero on the calibration text; what reads them is "
                  "rounded to nearest",
                  reader.gguf_name));
}

std::vector<std::string> CalibratedLayers::warnings() const {
  std::vector<std::string> all = warnings_;
  all.insert(all.end(), experts_.warnings().begin(), experts_.warnings().end());
  return all;
}

void CalibratedLayers::encode_site(Role site, const LayerWeights& original, LayerWeights& weights) {
  const std::vector<const Weight*> readers = rounded_readers(site);
  if (readers.empty()) return;
  const int64_t columns = readers.front()->columns();
  SiteMoments moments = streams_.gather(site, columns, original, weights);
  warn_of_nothing(*readers.front(), moments);
  std::vector<float> scales =
      moments.has_output() ? scales_of_columns(site) : scale_norm(moments, weights);
  const bool around_mean = std::ranges::all_of(
      readers, [&](const Weight* weight) { return corrected_bias(*weight) != nullptr; });
  if (around_mean) subtract_mean(moments);
  std::vector<int32_t> sorted;
  if (options_.sort_columns) sorted = sort_by_use(moments);
  std::vector<float> squares;
  for (int64_t j = 0; j < columns && !moments.cross.empty(); ++j)
    squares.push_back(moments.gram[at(j * columns + j)]);
  const Hessian hessian = factor_hessian(std::move(moments.gram), columns, pool_, options_.hessian);
  RoundingTarget target{.moments = moments, .hessian = hessian, .column_scales = std::move(scales)};
  target.columns = std::move(sorted);
  target.squares = std::move(squares);
  for (const Weight* weight : readers) {
    const MatrixRounding rounding(*weight, *rounded_format(*weight), target,
                                  scales_of_rows(weight->role), options_, pool_);
    encoded_[weight] = rounding.round();
    correct_bias(*weight, rounding, weights);
    replace(*weight, weights);
  }
}

/// From here on the layer computes with the rounded matrix.
void CalibratedLayers::replace(const Weight& weight, LayerWeights& weights) {
  const Format* format = rounded_format(weight);
  std::span<const std::byte> bytes = encoded_.at(&weight).bytes;
  std::vector<float> floats;
  if (!encoded_.at(&weight).columns.empty()) {
    floats = values_in_order(weight, *format, encoded_.at(&weight));
    bytes = std::as_bytes(std::span(floats));
    format = &format_named("F32");
  }
  const auto row_size = at(row_bytes(*format, weight.columns()));
  for (const MatrixPart& part : parts_of(weight, model_.config, weights)) {
    // Only whole matrices have another row order in GGUF.
    const TensorView view{format,
                          {part.count, weight.columns()},
                          bytes.subspan(at(part.begin) * row_size, at(part.count) * row_size)};
    *part.matrix = PackedMatrix::pack(view, inverse(weight.gguf_rows), {.float_math = true}, pool_);
  }
}

/// Goes on from what GPTQ rounded.
void CalibratedLayers::learn(LayerWeights& weights) {
  RoundedLayer layer{.model = model_,
                     .index = layers_done_,
                     .attention_norm = weights.attention_norm.gain,
                     .mlp_norm = weights.mlp_norm.gain};
  for (auto& [weight, encoded] : encoded_) {
    if (encoded.wanted.empty()) continue;
    layer.matrices.push_back(
        {weight, rounded_format(*weight), std::exchange(encoded.best, {}), encoded.bytes});
  }
  for (const auto& sample : samples_) layer.lengths.push_back(std::ssize(sample));
  layer.input = [&](int64_t sample) { return streams_.input_of(sample); };
  layer.wanted = [&](int64_t sample) { return streams_.reference_output_of(sample); };
  layer.output = [&](int64_t sample) { return streams_.output_of(sample, weights); };
  const auto progress = [&](int64_t step, double loss) {
    if (options_.learning_progress) options_.learning_progress(layers_done_, step, loss);
  };
  LearnedLayer learned = learn_layer(std::move(layer), options_.learning, pool_, progress);
  for (auto& [weight, encoded] : encoded_) {
    const auto bytes = learned.bytes.find(weight->role);
    if (bytes != learned.bytes.end()) {
      encoded.bytes = std::move(bytes->second);
      update_error(*weight, *rounded_format(*weight), encoded);
      replace(*weight, weights);
    }
    encoded.wanted = {};
  }
  if (options_.learned) options_.learned(layers_done_, learned);
}

RoundedWeight CalibratedLayers::encoded(const Weight& weight) const {
  if (const RoundedWeight* of_experts = experts_.encoded(weight)) return *of_experts;
  RoundedWeight rounded;
  rounded.largest_key = kv_range_.key;
  rounded.largest_value = kv_range_.value;
  const auto found = encoded_.find(&weight);
  if (found == encoded_.end()) return rounded;
  rounded.bytes = found->second.bytes;
  rounded.error = found->second.error;
  rounded.square = found->second.square;
  rounded.largest_input = found->second.largest_input;
  rounded.columns = found->second.columns;
  return rounded;
}

}  // namespace fewbits
