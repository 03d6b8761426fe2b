#include "pipeline/model_edits.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.h"
#include "methods/smoothing.h"

namespace fewbits {
namespace {

constexpr std::array kAttentionReaders = {Role::kQueryKeyValue, Role::kQuery, Role::kKey,
                                          Role::kValue, Role::kLatent};
constexpr std::array kMlpReaders = {Role::kGateUp,     Role::kGate,       Role::kUp,
                                    Role::kRouter,     Role::kExpertGate, Role::kExpertUp,
                                    Role::kSharedGate, Role::kSharedUp};
constexpr std::array kWriters = {Role::kAttentionOutput, Role::kDown, Role::kExpertDown,
                                 Role::kSharedDown};
constexpr std::array kWriterBiases = {Role::kAttentionOutputBias, Role::kDownBias};

size_t at(int64_t i) {
  return static_cast<size_t>(i);
}

void multiply(std::vector<float>& factors, const std::vector<float>& more) {
  if (factors.empty()) factors.assign(more.size(), 1.0f);
  check(factors.size() == more.size());
  for (size_t i = 0; i < more.size(); ++i) factors[i] *= more[i];
}

std::vector<float> inverse(std::vector<float> values) {
  for (float& value : values) value = 1 / value;
  return values;
}

std::vector<int64_t> starts_at(int64_t first, int64_t step, int64_t count) {
  std::vector<int64_t> starts;
  for (int64_t i = 0; i < count; ++i) starts.push_back(first + i * step);
  return starts;
}

}  // namespace

void ModelEdits::refuse(const std::string& what) const {
  throw Error(fmt::format("{}: {}", model_.path.string(), what));
}

EditedWeight& ModelEdits::edited(Role role, int64_t layer) {
  std::unique_ptr<EditedWeight>& found = edits_[{layer, role}];
  if (found == nullptr) found = std::make_unique<EditedWeight>(*model_.find(role, layer), mixed_);
  return *found;
}

std::vector<float> ModelEdits::vector_of(Role role, int64_t layer) {
  const auto found = edits_.find({layer, role});
  if (found != edits_.end()) return found->second->values;
  const Weight& weight = *model_.find(role, layer);
  std::vector<float> values(at(weight.values()));
  weight.read_row(0, values.data());
  return values;
}

/// Norms that stand before matrices and before nothing else.
std::vector<ModelEdits::NormSite> ModelEdits::norm_sites() const {
  std::vector<NormSite> sites;
  const auto add = [&](NormSite site) {
    std::erase_if(site.readers, [&](Role role) { return !has(role, site.layer); });
    if (has(site.gain, site.layer) && !site.readers.empty()) sites.push_back(std::move(site));
  };
  for (int64_t layer = 0; layer < model_.config.layers; ++layer) {
    std::vector<Role> attention(kAttentionReaders.begin(), kAttentionReaders.end());
    const std::vector<Role> mlp(kMlpReaders.begin(), kMlpReaders.end());
    if (!has(Role::kMlpNorm, layer)) attention.insert(attention.end(), mlp.begin(), mlp.end());
    add({Role::kAttentionNorm, Role::kAttentionNormBias, layer, std::move(attention)});
    add({Role::kMlpNorm, Role::kMlpNormBias, layer, mlp});
  }
  add({Role::kOutputNorm, Role::kOutputNormBias, -1, {Role::kOutput}});
  return sites;
}

void ModelEdits::fuse_norms() {
  if (fused_) return;
  fused_ = true;
  const std::vector<NormSite> sites = norm_sites();
  if (sites.empty()) {
    refuse("no norm stands before matrices alone; what the layers add up is normed itself");
  }
  for (const NormSite& site : sites) fuse(site);
}

void ModelEdits::fuse(const NormSite& site) {
  const std::vector<float> gains = vector_of(site.gain, site.layer);
  if (has(site.bias, site.layer)) {
    std::vector<float> bias = vector_of(site.bias, site.layer);
    for (size_t i = 0; i < bias.size(); ++i) {
      if (gains[i] == 0 && bias[i] != 0) {
        refuse(fmt::format("{}: gain {} is 0 and its bias is not, so the gain cannot move",
                           model_.find(site.gain, site.layer)->gguf_name, i));
      }
      bias[i] = gains[i] == 0 ? 0 : bias[i] / gains[i];
    }
    edited(site.bias, site.layer).values = std::move(bias);
  }
  multiply_readers(site, gains);
  edited(site.gain, site.layer).values.assign(gains.size(), 1.0f);
}

void ModelEdits::multiply_readers(const NormSite& site, const std::vector<float>& factors) {
  for (const Role role : site.readers) {
    multiply(edited(role, site.layer).edit.columns_before, factors);
  }
}

/// Whether all gains are the same number.
bool ModelEdits::is_even(Role gain, int64_t layer) const {
  const Weight& weight = *model_.find(gain, layer);
  std::vector<float> gains(at(weight.values()));
  weight.read_row(0, gains.data());
  return std::ranges::all_of(gains, [&](float value) { return value == gains.front(); });
}

void ModelEdits::refuse_norms_in_stream() const {
  if (has(Role::kEmbeddingNorm, -1) || model_.config.design.norms_sum) {
    refuse(
        "the hidden states cannot be rotated: norms with a gain for each of their columns stand "
        "on them");
  }
  if (!model_.config.design.causal) {
    refuse("the hidden states cannot be rotated: they are what this model is asked for");
  }
  for (int64_t layer = 0; layer < model_.config.layers; ++layer) {
    for (const Role norm : {Role::kAttentionPostNorm, Role::kMlpPostNorm}) {
      if (!has(norm, layer) || is_even(norm, layer)) continue;
      refuse(fmt::format(
          "the hidden states cannot be rotated: {} gives each column of what the layer adds a gain "
          "of its own, and no matrix behind it can take that over",
          model_.find(norm, layer)->gguf_name));
    }
  }
}

/// The output becomes a matrix of its own, for now the same as the embedding.
void ModelEdits::untie_output() {
  const auto names = model_.architecture->tensors;
  const auto name = std::ranges::find(names, Role::kOutput, &TensorName::role);
  check(name != names.end());
  Weight weight = *model_.find(Role::kEmbedding);
  auto derived = std::make_unique<DerivedTensor>();
  derived->tensor = *weight.tensor;
  derived->tensor.name = std::string(name->hugging_face);
  weight.tensor = &derived->tensor;
  weight.role = Role::kOutput;
  weight.gguf_name = std::string(name->gguf);
  model_.derived.push_back(std::move(derived));
  model_.weights.push_back(std::move(weight));
  model_.config.tied_embeddings = false;
  edited(Role::kOutput, -1);
  notes_.push_back(
      "the output layer is no longer the embedding: its norm's gains went into a matrix of its "
      "own");
}

/// Where the output is the embedding, both can be turned alike, but only one of them can take over
/// the gains of a norm.
void ModelEdits::settle_output_norm() {
  if (!model_.config.tied_embeddings || is_even(Role::kOutputNorm, -1)) return;
  untie_output();
  fuse({Role::kOutputNorm, Role::kOutputNormBias, -1, {Role::kOutput}});
}

void ModelEdits::rotate_vector(Role role, int64_t layer, const HadamardRotation& rotation) {
  if (!has(role, layer)) return;
  std::vector<float> values = vector_of(role, layer);
  rotation.apply(values.data());
  edited(role, layer).values = std::move(values);
}

void ModelEdits::rotate_residual(uint64_t seed) {
  refuse_norms_in_stream();
  if (!norm_sites().empty()) fuse_norms();
  settle_output_norm();
  const bool keeps_mean = model_.config.design.norm == LayerDesign::Norm::kLayer;
  rotations_.push_back(std::make_unique<HadamardRotation>(model_.config.hidden, seed, keeps_mean));
  const HadamardRotation& rotation = *rotations_.back();
  for (const Role role : {Role::kEmbedding, Role::kPositions, Role::kOutput}) {
    if (has(role, -1)) edited(role, -1).edit.columns = &rotation;
  }
  rotate_vector(Role::kOutputNormBias, -1, rotation);
  for (int64_t layer = 0; layer < model_.config.layers; ++layer) rotate_layer(layer);
}

void ModelEdits::rotate_layer(int64_t layer) {
  const HadamardRotation& rotation = *rotations_.back();
  const auto read = [&](Role role) {
    if (has(role, layer)) edited(role, layer).edit.columns = &rotation;
  };
  std::ranges::for_each(kAttentionReaders, read);
  std::ranges::for_each(kMlpReaders, read);
  for (const Role role : kWriters) {
    if (!has(role, layer)) continue;
    EditedWeight& weight = edited(role, layer);
    weight.edit.rows = &rotation;
    weight.edit.row_starts =
        starts_at(0, rotation.size(), weight.source().rows() / rotation.size());
  }
  for (const Role role : kWriterBiases) rotate_vector(role, layer, rotation);
  for (const Role role : {Role::kAttentionNormBias, Role::kMlpNormBias}) {
    rotate_vector(role, layer, rotation);
  }
}

/// Where the rows of each head's values begin, of which matrix, and of which bias.
std::vector<int64_t> ModelEdits::value_rows(int64_t layer, Role& role, Role& bias) const {
  const ModelConfig& config = model_.config;
  const int64_t size = config.value_size();
  bias = Role::kValueBias;
  if (has(Role::kValue, layer)) {
    role = Role::kValue;
    return starts_at(0, size, config.kv_heads);
  }
  if (has(Role::kQueryKeyValue, layer)) {
    role = Role::kQueryKeyValue;
    bias = Role::kQueryKeyValueBias;
    return starts_at((config.heads + config.kv_heads) * config.head_dim, size, config.kv_heads);
  }
  if (has(Role::kKeyValue, layer)) {
    role = Role::kKeyValue;
    return starts_at(config.still_dims(), config.still_dims() + size, config.heads);
  }
  role = Role::kValueFromLatent;
  return starts_at(0, size, config.heads);
}

void ModelEdits::rotate_heads(uint64_t seed) {
  const int64_t size = model_.config.value_size();
  for (int64_t layer = 0; layer < model_.config.layers; ++layer) {
    rotations_.push_back(
        std::make_unique<HadamardRotation>(size, seed + 1 + static_cast<uint64_t>(layer)));
    const HadamardRotation& rotation = *rotations_.back();
    Role role, bias;
    const std::vector<int64_t> starts = value_rows(layer, role, bias);
    WeightEdit& edit = edited(role, layer).edit;
    edit.rows = &rotation;
    edit.row_starts = starts;
    edited(Role::kAttentionOutput, layer).edit.columns = &rotation;
    if (!has(bias, layer)) continue;
    std::vector<float> values = vector_of(bias, layer);
    for (const int64_t start : starts) rotation.apply(values.data() + start);
    edited(bias, layer).values = std::move(values);
  }
}

/// What the rows of a matrix can be scaled for: value for attention output, and up for down, where
/// the activation is on another matrix or does not mind.
std::vector<ModelEdits::Pair> ModelEdits::pairs(int64_t layer) const {
  std::vector<Pair> pairs;
  Pair value;
  value.consumer = Role::kAttentionOutput;
  const std::vector<int64_t> starts = value_rows(layer, value.producer, value.producer_bias);
  const int64_t size = model_.config.value_size();
  const int64_t group = model_.config.heads / std::ssize(starts);
  for (int64_t j = 0; j < model_.config.heads * size; ++j) {
    value.row_of_column.push_back(starts[at(j / size / group)] + j % size);
  }
  pairs.push_back(std::move(value));
  const auto add = [&](Role up, Role down, int64_t first_row) {
    if (!has(up, layer) || !has(down, layer)) return;
    const Weight& weight = *model_.find(down, layer);
    const int64_t experts = weight.shape.size() > 2 ? weight.shape.front() : 1;
    pairs.push_back({up, Role::kUpBias, down, starts_at(first_row, 1, experts * weight.columns())});
  };
  const bool gated = has(Role::kGate, layer);
  if (gated || model_.config.design.activation == LayerDesign::Activation::kRelu) {
    add(Role::kUp, Role::kDown, 0);
  }
  add(Role::kGateUp, Role::kDown, model_.config.ffn);
  add(Role::kExpertUp, Role::kExpertDown, 0);
  add(Role::kSharedUp, Role::kSharedDown, 0);
  return pairs;
}

/// Divides the producer's rows and its bias, multiplies the consumer's columns. `scales`: by row.
void ModelEdits::scale(const Pair& pair, int64_t layer, const std::vector<float>& scales) {
  const std::vector<float> shares = inverse(scales);
  multiply(edited(pair.producer, layer).edit.rows_after, shares);
  if (has(pair.producer_bias, layer)) {
    std::vector<float> bias = vector_of(pair.producer_bias, layer);
    multiply(bias, shares);
    edited(pair.producer_bias, layer).values = std::move(bias);
  }
  std::vector<float> of_columns;
  for (const int64_t row : pair.row_of_column) of_columns.push_back(scales[at(row)]);
  multiply(edited(pair.consumer, layer).edit.columns_after, of_columns);
}

void ModelEdits::equalize() {
  for (int64_t layer = 0; layer < model_.config.layers; ++layer) {
    for (const Pair& pair : pairs(layer)) {
      const std::vector<float> rows = edited(pair.producer, layer).largest_of_rows(pool_);
      const std::vector<float> columns = edited(pair.consumer, layer).largest_of_columns(pool_);
      std::vector<float> read(rows.size());  // heads that share a value share its scales
      for (size_t j = 0; j < columns.size(); ++j) {
        float& largest = read[at(pair.row_of_column[j])];
        largest = std::max(largest, columns[j]);
      }
      scale(pair, layer, equalizing_scales(rows, read));
    }
  }
}

bool ModelEdits::smooth_norm(const NormSite& site, const LargestInputs& largest, double alpha) {
  const Role role = site.gain == Role::kAttentionNorm ? Role::kQuery : Role::kGate;
  const auto inputs = largest.find({site.layer, role});
  if (site.layer < 0 || inputs == largest.end()) return false;
  std::vector<float> weights(inputs->second.size());
  for (const Role reader : site.readers) {
    const std::vector<float> columns = edited(reader, site.layer).largest_of_columns(pool_);
    for (size_t j = 0; j < columns.size(); ++j) {
      float& widest = weights[j % weights.size()];  // of all experts
      widest = std::max(widest, columns[j]);
    }
  }
  const std::vector<float> scales = smoothing_scales(inputs->second, weights, alpha);
  multiply_readers(site, scales);
  for (const Role role_of_norm : {site.gain, site.bias}) {
    if (!has(role_of_norm, site.layer)) continue;
    std::vector<float> values = vector_of(role_of_norm, site.layer);
    multiply(values, inverse(scales));
    edited(role_of_norm, site.layer).values = std::move(values);
  }
  return true;
}

void ModelEdits::smooth(const LargestInputs& largest, double alpha) {
  bool any = false;
  for (const NormSite& site : norm_sites()) any |= smooth_norm(site, largest, alpha);
  for (int64_t layer = 0; layer < model_.config.layers; ++layer) {
    for (const Pair& pair : pairs(layer)) {
      const auto inputs = largest.find({layer, pair.consumer});
      if (inputs == largest.end()) continue;
      const std::vector<float> columns = edited(pair.consumer, layer).largest_of_columns(pool_);
      std::vector<float> sizes = inputs->second;
      sizes.resize(columns.size());  // experts that no token went to stay as they are
      std::vector<float> read(at(edited(pair.producer, layer).source().rows())), fed = read;
      for (size_t j = 0; j < columns.size(); ++j) {
        const size_t row = at(pair.row_of_column[j]);
        read[row] = std::max(read[row], columns[j]);
        fed[row] = std::max(fed[row], sizes[j]);
      }
      scale(pair, layer, smoothing_scales(fed, read, alpha));
      any = true;
    }
  }
  if (!any) refuse("nothing here can take over the size of activations");
}

int64_t ModelEdits::memory() const {
  int64_t most = 0;
  for (const auto& [place, weight] : edits_) most = std::max(most, weight->values_mixed());
  return MixedRows::memory(most);
}

void ModelEdits::finish() {
  for (Weight& weight : model_.weights) {
    const auto found = edits_.find({weight.layer, weight.role});
    if (found == edits_.end()) continue;
    const EditedWeight* source = found->second.get();
    weight.computed = [source](int64_t row, float* out) { source->read_row(row, out); };
  }
}

}  // namespace fewbits
