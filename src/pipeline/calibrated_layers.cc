#include "pipeline/calibrated_layers.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/checked_math.h"
#include "base/error.h"
#include "base/interrupt.h"
#include "calibrate/gram.h"
#include "engine/embedder.h"
#include "engine/engine.h"
#include "pipeline/tensor_outer.h"

namespace fewbits {
namespace {

constexpr int64_t kRowsPerTask = 32;

/// Matrices that read the same input, by the role the observer reports for it.
std::vector<Role> readers_of(Role site) {
  switch (site) {
    case Role::kQuery:
      return {Role::kQueryKeyValue, Role::kQuery, Role::kKey, Role::kValue};
    case Role::kGate:
      return {Role::kGateUp, Role::kGate, Role::kUp};
    default:
      return {site};
  }
}

ModelConfig with_one_layer(ModelConfig config) {
  config.layers = 1;
  return config;
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

int64_t longest(const std::vector<std::vector<Token>>& samples) {
  size_t length = 0;
  for (const auto& sample : samples) length = std::max(length, sample.size());
  return static_cast<int64_t>(length);
}

}  // namespace

CalibratedLayers::CalibratedLayers(const Model& model,
                                   const std::map<const Weight*, const Format*>& formats,
                                   std::vector<std::vector<Token>> samples,
                                   const GptqOptions& options, ThreadPool& pool)
    : model_(model),
      formats_(formats),
      samples_(std::move(samples)),
      options_(options),
      pool_(pool),
      one_layer_(with_one_layer(model.config)),
      rope_(rope_table(model, longest(samples_))),
      cache_(one_layer_, longest(samples_)),
      buffers_(one_layer_, longest(samples_), pool.threads()) {
  rope_.prepare(0, longest(samples_));
  embed();
}

void CalibratedLayers::embed() {
  const Weight* table = model_.find(Role::kEmbedding);
  check(table != nullptr);
  const Embedder embedder(model_);
  for (const auto& sample : samples_) {
    for (size_t position = 0; position < sample.size(); ++position) {
      const size_t end = hidden_.size();
      hidden_.resize(end + static_cast<size_t>(table->columns()));
      table->read_row(sample[position], hidden_.data() + end);
      embedder.finish(hidden_.data() + end, static_cast<int64_t>(position));
    }
  }
  table->drop_pages();
}

const Format* CalibratedLayers::rounded_format(const Weight& weight) const {
  const Format* format = formats_.at(&weight);
  const bool copied = format == &weight.format();  // run_quantize keeps such bytes as they are
  return copied || !format->has_levels() || !weight.is_matrix() ? nullptr : format;
}

void CalibratedLayers::encode_layer(int64_t layer) {
  check(layer == layers_done_);
  encoded_.clear();
  LayerWeights weights = load_layer(model_, layer, {.float_math = true}, pool_);
  Grams grams = gather(weights);
  for (auto& [site, gram] : grams) encode_site(site, gram.mean(), layer, weights);
  run_samples(weights, nullptr, true);
  ++layers_done_;
}

CalibratedLayers::Grams CalibratedLayers::gather(const LayerWeights& weights) {
  Grams grams;
  const SiteObserver observer = [&](Role site, std::span<const float> input, int64_t tokens) {
    const int64_t columns = static_cast<int64_t>(input.size()) / tokens;
    grams.try_emplace(site, columns).first->second.add(input.data(), tokens, pool_);
    return site != Role::kDown;
  };
  run_samples(weights, &observer, false);
  return grams;
}

void CalibratedLayers::encode_site(Role site, const std::vector<float>& gram, int64_t layer,
                                   LayerWeights& weights) {
  std::optional<Hessian> hessian;
  for (const Role role : readers_of(site)) {
    const Weight* weight = model_.find(role, layer);
    if (weight == nullptr) continue;
    const Format* format = rounded_format(*weight);
    if (format == nullptr) continue;
    if (!hessian) hessian = factor_hessian(gram, weight->columns());
    encode_weight(*weight, *format, *hessian);
    const std::span<const std::byte> bytes = encoded_.at(weight);
    const auto row_size = static_cast<size_t>(row_bytes(*format, weight->columns()));
    for (const MatrixPart& part : parts_of(*weight, model_.config, weights)) {
      // Only whole matrices have another row order in GGUF.
      const TensorView view{format,
                            {part.count, weight->columns()},
                            bytes.subspan(static_cast<size_t>(part.begin) * row_size,
                                          static_cast<size_t>(part.count) * row_size)};
      *part.matrix =
          PackedMatrix::pack(view, inverse(weight->gguf_rows), {.float_math = true}, pool_);
    }
  }
}

void CalibratedLayers::encode_weight(const Weight& weight, const Format& format,
                                     const Hessian& hessian) {
  const int64_t all_rows = weight.rows();
  const int64_t columns = weight.columns(), row_size = row_bytes(format, columns);
  const Outer outer = tensor_outer(format, weight, pool_);
  std::vector<std::byte>& bytes = encoded_[&weight];
  bytes.resize(static_cast<size_t>(all_rows * row_size));
  pool_.run(divide_up(all_rows, kRowsPerTask), [&](int64_t task, int) {
    if (interrupted()) return;
    const int64_t first = task * kRowsPerTask, rows = std::min(kRowsPerTask, all_rows - first);
    std::vector<float> values(static_cast<size_t>(rows * columns));
    for (int64_t i = 0; i < rows; ++i) {
      weight.read_row(mapped(weight.gguf_rows, first + i), values.data() + i * columns);
    }
    gptq({format, hessian, options_, &outer}, values.data(), rows, bytes.data() + first * row_size);
  });
  throw_if_interrupted();
  weight.drop_pages();
}

void CalibratedLayers::run_samples(const LayerWeights& weights, const SiteObserver* observer,
                                   bool keep) {
  LayerContext context{one_layer_, rope_, buffers_, pool_, observer};
  std::vector<float> copy;
  auto next = hidden_.begin();
  for (const auto& sample : samples_) {
    throw_if_interrupted();
    const auto size = static_cast<int64_t>(sample.size()) * one_layer_.hidden;
    copy.assign(next, next + size);
    cache_.truncate(0);
    forward_layer(weights, copy, cache_.layer(0), context);
    if (keep) std::copy(copy.begin(), copy.end(), next);
    next += size;
  }
}

std::span<const std::byte> CalibratedLayers::encoded(const Weight& weight) const {
  const auto found = encoded_.find(&weight);
  return found == encoded_.end() ? std::span<const std::byte>() : found->second;
}

namespace {

std::map<const Weight*, const Format*> formats_of(const QuantizePlan& plan) {
  std::map<const Weight*, const Format*> formats;
  for (const PlannedWeight& planned : plan.weights) {
    formats[planned.weight] = &planned.rounded_format();
  }
  return formats;
}

}  // namespace

CalibratedEncoder::CalibratedEncoder(const Model& model, const QuantizePlan& plan,
                                     std::vector<std::vector<Token>> samples, ThreadPool& pool)
    : formats_(formats_of(plan)), layers_(model, formats_, std::move(samples), {}, pool) {}

std::span<const std::byte> CalibratedEncoder::encode(const PlannedWeight& planned) {
  const int64_t layer = planned.weight->layer;
  while (layers_.layers_done() <= layer) layers_.encode_layer(layers_.layers_done());
  if (layer < 0) return {};
  check(layer + 1 == layers_.layers_done());  // plans list the layers in order
  return layers_.encoded(*planned.weight);
}

}  // namespace fewbits
