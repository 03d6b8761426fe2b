#include "pipeline/calibrated_layers.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <iterator>
#include <numeric>
#include <utility>

#include "base/checked_math.h"
#include "base/error.h"
#include "base/interrupt.h"
#include "calibrate/blas.h"
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

int64_t mapped(const std::vector<int32_t>& map, int64_t row) {
  return map.empty() ? row : int64_t{map[static_cast<size_t>(row)]};
}

/// [rows][n] = a [rows][n] * b [n][n]
std::vector<float> product(const std::vector<float>& a, const std::vector<float>& b, int64_t n) {
  std::vector<float> result(a.size());
  const auto size = static_cast<int>(n), rows = static_cast<int>(std::ssize(a) / n);
  const BlasCall call;
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, rows, size, size, 1.0f, a.data(), size,
              b.data(), size, 0.0f, result.data(), size);
  return result;
}

/// The value head's row whose output is column j of what attention output reads.
int64_t value_row(const ModelConfig& config, int64_t j) {
  const int64_t dim = config.head_dim, group = config.heads / config.kv_heads;
  return j / dim / group * dim + j % dim;
}

/// Where each weight would be best while all others stay at `values`: q - ((q - w) H) / H_jj.
std::vector<float> best_alone(const Hessian& hessian, const std::vector<float>& weights,
                              const std::vector<float>& values) {
  std::vector<float> lost(values);
  for (size_t i = 0; i < lost.size(); ++i) lost[i] -= weights[i];
  std::vector<float> best = product(lost, hessian.matrix, hessian.columns);
  for (size_t i = 0; i < best.size(); ++i) {
    const auto column = static_cast<int64_t>(i) % hessian.columns;
    best[i] = values[i] - best[i] / hessian.diagonal(column);
  }
  return best;
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

struct CalibratedLayers::Target {
  const SiteMoments& moments;
  const Hessian& hessian;
  std::vector<float> column_scales = {};  ///< empty: all 1
  /// By what a row w is multiplied to give its change: H^-1 (after cross - w gram) where there are
  /// outputs to aim at, else cross H^-1. Empty: no change.
  std::vector<float> correction = {};
  std::vector<int32_t> columns = {};  ///< what is rounded has these in turn; empty: all in order
};

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
      Encoded& encoded = encoded_[weight];
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
  const bool other_aims = options_.sort_columns || options_.streams.follow_outputs ||
                          options_.streams.weigh_by_residual || options_.learning.wanted();
  if (!options_.correct_biases || other_aims || rounded_format(weight)->is_float()) return nullptr;
  const Weight* bias = find(bias_of(weight.role));
  const bool own = weight.role == Role::kDown || bias_of(weight.role) != Role::kDownBias;
  return bias != nullptr && own && formats_.at(bias)->name == "F32" ? bias : nullptr;
}

/// (W - W^) E[x], in our order of rows.
std::vector<float> CalibratedLayers::lost_means(const Weight& weight, const Target& target) const {
  const int64_t all_rows = weight.rows(), columns = weight.columns();
  const Format& format = *rounded_format(weight);
  const std::byte* bytes = encoded_.at(&weight).bytes.data();
  std::vector<float> lost(at(all_rows));
  pool_.run(divide_up(all_rows, kRowsPerTask), [&](int64_t task, int) {
    const int64_t first = task * kRowsPerTask, rows = std::min(kRowsPerTask, all_rows - first);
    const std::vector<float> values = scaled_rows(weight, first, rows, target);
    std::vector<float> found(values.size());
    decode_rows(format, bytes + first * row_bytes(format, columns), rows, columns, found.data());
    for (int64_t i = 0; i < rows; ++i) {
      double sum = 0;
      for (int64_t j = 0; j < columns; ++j) {
        const size_t place = at(i * columns + j);
        sum += (double{values[place]} - found[place]) * target.moments.mean[at(j)];
      }
      lost[at(mapped(weight.gguf_rows, first + i))] = static_cast<float>(sum);
    }
  });
  return lost;
}

void CalibratedLayers::correct_bias(const Weight& weight, const Target& target,
                                    LayerWeights& weights) {
  const Weight* bias = corrected_bias(weight);
  if (bias == nullptr) return;
  const std::vector<float> lost = lost_means(weight, target);
  Encoded& encoded = encoded_[bias];
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
  Encoded& encoded = encoded_[norm];
  encoded.bytes.resize(n * sizeof(float));
  std::memcpy(encoded.bytes.data(), gains.data(), encoded.bytes.size());
  for (const float gain : gains) encoded.square += double{gain} * gain;
  return scales;
}

void CalibratedLayers::encode_site(Role site, const LayerWeights& original, LayerWeights& weights) {
  const std::vector<const Weight*> readers = rounded_readers(site);
  if (readers.empty()) return;
  const int64_t columns = readers.front()->columns();
  SiteMoments moments = streams_.gather(site, columns, original, weights);
  std::vector<float> scales =
      moments.has_output() ? scales_of_columns(site) : scale_norm(moments, weights);
  const bool around_mean = std::ranges::all_of(
      readers, [&](const Weight* weight) { return corrected_bias(*weight) != nullptr; });
  if (around_mean) subtract_mean(moments);
  std::vector<int32_t> sorted;
  if (options_.sort_columns) sorted = sort_by_use(moments);
  // What aims at outputs needs the moments once more.
  const Hessian hessian =
      factor_hessian(moments.cross.empty() ? std::move(moments.gram) : moments.gram, columns, pool_,
                     options_.hessian);
  Target target{.moments = moments, .hessian = hessian, .column_scales = std::move(scales)};
  target.columns = std::move(sorted);
  if (!moments.cross.empty()) {
    target.correction = inverse_of(hessian);
    if (!moments.has_output()) {
      target.correction = product(moments.cross, target.correction, columns);
    }
  }
  for (const Weight* weight : readers) {
    encode_weight(*weight, target);
    encoded_[weight].largest_input = moments.largest;
    encoded_[weight].columns = target.columns;
    correct_bias(*weight, target, weights);
    replace(*weight, weights);
  }
}

void CalibratedLayers::encode_weight(const Weight& weight, const Target& target) {
  const Format& format = *rounded_format(weight);
  const int64_t all_rows = weight.rows();
  const int64_t columns = weight.columns(), row_size = row_bytes(format, columns);
  Encoded& encoded = encoded_[&weight];
  encoded.bytes.resize(at(all_rows * row_size));
  if (options_.learning.wanted()) {
    encoded.wanted.resize(at(all_rows * columns));
    encoded.best.resize(encoded.wanted.size());
  }
  const int64_t at_once = rows_rounded_at_once(all_rows, columns);
  const int64_t tasks = divide_up(all_rows, at_once);
  std::vector<Encoded> sums(at(tasks));
  const Outer outer = outer_of_tensor(weight, target);
  pool_.run(tasks, [&](int64_t task, int thread) {
    if (interrupted()) return;
    if (thread == 0 && options_.progress) options_.progress(weight, -1);
    const int64_t first = task * at_once, rows = std::min(at_once, all_rows - first);
    std::vector<float> values = scaled_rows(weight, first, rows, target);
    std::byte* out = encoded.bytes.data() + first * row_size;
    if (format.is_float()) {
      encode_rows(format, values.data(), rows, columns, nullptr, Search::kBest, out);
    } else {
      std::vector<float> aimed;
      if (!target.correction.empty()) {
        aimed = values;
        aim_at_outputs(weight, first, target, aimed);
      }
      const std::vector<float>& wanted = aimed.empty() ? values : aimed;
      round_rows({format, target.hessian, options_.gptq, &outer}, wanted.data(), rows, out);
    }
    std::vector<float> decoded(values.size());
    decode_rows(format, out, rows, columns, decoded.data());
    if (options_.learning.wanted()) {
      const std::vector<float> best = best_alone(target.hessian, values, decoded);
      std::copy(values.begin(), values.end(), encoded.wanted.begin() + first * columns);
      std::copy(best.begin(), best.end(), encoded.best.begin() + first * columns);
    }
    for (size_t i = 0; i < values.size(); ++i) {
      const double error = double{values[i]} - decoded[i];
      sums[at(task)].error += error * error;
      sums[at(task)].square += double{values[i]} * values[i];
    }
  });
  throw_if_interrupted();
  for (const Encoded& part : sums) {  // in order: the same total for any thread count
    encoded.error += part.error;
    encoded.square += part.square;
  }
  weight.drop_pages();
  if (options_.progress) {
    options_.progress(weight, encoded.square > 0 ? encoded.error / encoded.square : 0);
  }
}

/// What all rows share, where the format has such parameters.
Outer CalibratedLayers::outer_of_tensor(const Weight& weight, const Target& target) const {
  Outer outer;
  const Format& format = *rounded_format(weight);
  if (!format.fit_tensor) return outer;
  TensorRange range;
  for (int64_t first = 0; first < weight.rows(); first += kRowsPerTask) {
    const int64_t rows = std::min(kRowsPerTask, weight.rows() - first);
    const std::vector<float> values = scaled_rows(weight, first, rows, target);
    range.add(values.data(), std::ssize(values));
  }
  format.fit_tensor(range, outer);
  return outer;
}

/// Rows of GGUF's order, scaled.
std::vector<float> CalibratedLayers::scaled_rows(const Weight& weight, int64_t first, int64_t rows,
                                                 const Target& target) const {
  const int64_t columns = weight.columns();
  const auto row_scales = row_scales_.find(weight.role);
  std::vector<float> values(at(rows * columns));
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t row = mapped(weight.gguf_rows, first + i);
    const auto out = std::span(values).subspan(at(i * columns), at(columns));
    weight.read_row(row, out.data());
    const float share = row_scales == row_scales_.end() ? 1.0f : 1 / row_scales->second[at(row)];
    for (size_t j = 0; j < out.size(); ++j) {
      out[j] *= share * (target.column_scales.empty() ? 1.0f : target.column_scales[j]);
    }
    if (target.columns.empty()) continue;
    const std::vector<float> unsorted(out.begin(), out.end());
    for (size_t j = 0; j < out.size(); ++j) out[j] = unsorted[at(target.columns[j])];
  }
  return values;
}

/// Moves rows to those that come nearest to the wanted outputs, given the inputs there are.
void CalibratedLayers::aim_at_outputs(const Weight& weight, int64_t first, const Target& target,
                                      std::vector<float>& values) const {
  const SiteMoments& moments = target.moments;
  const int64_t columns = moments.columns;
  std::vector<float> change;
  if (moments.has_output()) {
    std::vector<float> missing = product(values, moments.gram, columns);
    for (int64_t i = 0; i < std::ssize(missing) / columns; ++i) {
      const float* wanted = &moments.cross[at(mapped(weight.gguf_rows, first + i) * columns)];
      for (int64_t j = 0; j < columns; ++j) {
        missing[at(i * columns + j)] = wanted[j] - missing[at(i * columns + j)];
      }
    }
    change = product(missing, target.correction, columns);
  } else {
    change = product(values, target.correction, columns);
  }
  const auto share = static_cast<float>(options_.output_share);
  for (size_t i = 0; i < values.size(); ++i) values[i] += share * change[i];
}

/// The values of what was rounded in another order of columns.
std::vector<float> CalibratedLayers::in_order(const Weight& weight, const Encoded& encoded) const {
  const int64_t rows = weight.rows(), columns = weight.columns();
  const Format& format = *rounded_format(weight);
  std::vector<float> values(at(rows * columns)), row(at(columns));
  for (int64_t i = 0; i < rows; ++i) {
    const std::byte* bytes = encoded.bytes.data() + i * row_bytes(format, columns);
    decode_rows(format, bytes, 1, columns, row.data());
    for (int64_t j = 0; j < columns; ++j)
      values[at(i * columns + encoded.columns[at(j)])] = row[at(j)];
  }
  return values;
}

/// From here on the layer computes with the rounded matrix.
void CalibratedLayers::replace(const Weight& weight, LayerWeights& weights) {
  const Format* format = rounded_format(weight);
  std::span<const std::byte> bytes = encoded_.at(&weight).bytes;
  std::vector<float> floats;
  if (!encoded_.at(&weight).columns.empty()) {
    floats = in_order(weight, encoded_.at(&weight));
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
      measure(*weight);
      replace(*weight, weights);
    }
    encoded.wanted = {};
  }
  if (options_.learned) options_.learned(layers_done_, learned);
}

/// What the bytes of a matrix lose.
void CalibratedLayers::measure(const Weight& weight) {
  Encoded& encoded = encoded_.at(&weight);
  const std::vector<float>& wanted = encoded.wanted;
  std::vector<float> values(wanted.size());
  decode_rows(*rounded_format(weight), encoded.bytes.data(), weight.rows(), weight.columns(),
              values.data());
  encoded.error = 0;
  for (size_t i = 0; i < wanted.size(); ++i) {
    const double error = double{wanted[i]} - values[i];
    encoded.error += error * error;
  }
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
