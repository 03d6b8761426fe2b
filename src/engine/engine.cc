#include "engine/engine.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <optional>
#include <vector>

#include "base/checked_math.h"
#include "base/error.h"
#include "base/interrupt.h"
#include "engine/embedder.h"
#include "engine/parallel.h"
#include "kernels/kernel_table.h"

namespace fewbits {
namespace {

constexpr int64_t kEmbeddingRowsPerTask = 16;

const Weight& weight_of(const Model& model, Role role, int64_t layer = -1) {
  const Weight* weight = model.find(role, layer);
  check(weight != nullptr);  // open_model found all of them
  return *weight;
}

/// A copy of some rows as they would be stored in our order.
std::vector<std::byte> copy_rows(const Weight& weight, int64_t begin, int64_t count) {
  const int64_t size = weight.format().block_bytes;
  std::vector<std::byte> bytes, scratch;
  bytes.reserve(static_cast<size_t>(count * row_bytes(weight.format(), weight.columns())));
  for (int64_t row = begin; row < begin + count; ++row) {
    if (!weight.transposed) {
      const auto stored = weight.row_bytes(row, scratch);
      bytes.insert(bytes.end(), stored.begin(), stored.end());
      continue;
    }
    for (int64_t i = 0; i < weight.columns(); ++i) {
      const std::byte* value = weight.tensor->view.row(i).data() + row * size;
      bytes.insert(bytes.end(), value, value + size);
    }
  }
  return bytes;
}

struct Rows {
  int64_t begin, count;
};

bool is_joined(const Weight& weight) {
  return weight.tensor->joined != nullptr ||
         std::ranges::any_of(weight.parts,
                             [](const auto* part) { return part->joined != nullptr; });
}

/// Rows whose values are computed, as floats.
std::vector<std::byte> compute_rows(const Weight& weight, Rows rows, ThreadPool& pool) {
  constexpr int64_t kRowsPerTask = 32;
  const auto row_size = static_cast<size_t>(weight.columns()) * sizeof(float);
  std::vector<std::byte> bytes(static_cast<size_t>(rows.count) * row_size);
  pool.run(divide_up(rows.count, kRowsPerTask), [&](int64_t task, int) {
    std::vector<float> values(static_cast<size_t>(weight.columns()));
    const int64_t end = std::min(rows.count, (task + 1) * kRowsPerTask);
    for (int64_t row = task * kRowsPerTask; row < end; ++row) {
      weight.read_row(rows.begin + row, values.data());
      std::memcpy(bytes.data() + static_cast<size_t>(row) * row_size, values.data(), row_size);
    }
  });
  return bytes;
}

/// Rows of a weight as a matrix of their own: a part of a fused matrix, one of many experts.
PackedMatrix load_rows(const Weight& weight, Rows rows, PackOptions options, ThreadPool& pool) {
  throw_if_interrupted();
  const bool whole = rows.begin == 0 && rows.count == weight.rows();
  const Shape shape = {rows.count, weight.columns()};
  if (weight.computed) {
    return PackedMatrix::keep(format_named("F32"), shape, compute_rows(weight, rows, pool), options,
                              pool);
  }
  if (weight.transposed || is_joined(weight) || (!whole && !weight.stored_rows.empty())) {
    return PackedMatrix::keep(weight.format(), shape, copy_rows(weight, rows.begin, rows.count),
                              options, pool);
  }
  const auto row_size = static_cast<size_t>(row_bytes(weight.format(), weight.columns()));
  int64_t first = rows.begin;
  const StoredTensor* tensor = weight.tensor;
  if (!weight.parts.empty()) {
    const int64_t rows_of_part = tensor->view.rows();
    tensor = weight.parts[static_cast<size_t>(first / rows_of_part)];
    first %= rows_of_part;
    check(first + rows.count <= rows_of_part);
  }
  const auto bytes = tensor->view.bytes.subspan(static_cast<size_t>(first) * row_size,
                                                static_cast<size_t>(rows.count) * row_size);
  PackedMatrix packed =
      PackedMatrix::pack({&weight.format(), shape, bytes}, weight.stored_rows, options, pool);
  if (options.repack) tensor->file->drop(bytes);
  return packed;
}

PackedMatrix load_matrix(const Weight& weight, PackOptions options, ThreadPool& pool) {
  return load_rows(weight, {0, weight.rows()}, options, pool);
}

/// Reads one layer of a model.
class LayerLoader {
 public:
  LayerLoader(const Model& model, int64_t layer, PackOptions options, ThreadPool& pool)
      : model_(model), layer_(layer), options_(options), pool_(pool) {}

  LayerWeights load() const {
    LayerWeights weights;
    load_vectors(weights);
    load_attention(weights);
    if (model_.find(Role::kRouter, layer_) != nullptr) {
      load_experts(weights.experts);
    } else {
      load_mlp(weights);
    }
    const ModelConfig& config = model_.config;
    weights.window = config.slides(layer_) ? config.sliding_window : 0;
    return weights;
  }

 private:
  void load_vectors(LayerWeights& weights) const {
    using enum Role;
    weights.attention_norm = load_norm(model_, kAttentionNorm, kAttentionNormBias, layer_);
    weights.attention_post_norm =
        load_norm(model_, kAttentionPostNorm, kAttentionPostNormBias, layer_);
    weights.mlp_norm = load_norm(model_, kMlpNorm, kMlpNormBias, layer_);
    weights.mlp_post_norm = load_norm(model_, kMlpPostNorm, kMlpPostNormBias, layer_);
    weights.query_norm = vector(kQueryNorm);
    weights.key_norm = vector(kKeyNorm);
    weights.latent_norm = vector(kLatentNorm);
    weights.query_bias = vector(kQueryBias);
    weights.key_bias = vector(kKeyBias);
    weights.value_bias = vector(kValueBias);
    weights.attention_output_bias = vector(kAttentionOutputBias);
    weights.up_bias = vector(kUpBias);
    weights.down_bias = vector(kDownBias);
    split_bias(vector(kQueryKeyValueBias), weights);
  }

  void split_bias(const std::vector<float>& fused, LayerWeights& weights) const {
    if (fused.empty()) return;
    const auto key = fused.begin() + model_.config.heads * model_.config.head_dim;
    const auto value = key + model_.config.kv_heads * model_.config.head_dim;
    weights.query_bias.assign(fused.begin(), key);
    weights.key_bias.assign(key, value);
    weights.value_bias.assign(value, fused.end());
  }

  void load_attention(LayerWeights& weights) const {
    for (const Role role : {Role::kQueryKeyValue, Role::kQuery, Role::kKey, Role::kValue,
                            Role::kLatent, Role::kKeyValue, Role::kAttentionOutput}) {
      load_into(weights, role);
    }
    if (model_.find(Role::kKeyFromLatent, layer_) != nullptr) join_key_value(weights);
  }

  /// Newer GGUF files keep the parts of kKeyValue apart, that of keys on its side.
  void join_key_value(LayerWeights& weights) const {
    const ModelConfig& config = model_.config;
    const int64_t still = config.still_dims(), size = config.value_size(), latent = config.latent;
    const std::vector<float> keys = vector(Role::kKeyFromLatent);
    const std::vector<float> values = vector(Role::kValueFromLatent);
    std::vector<float> joined;
    joined.reserve(keys.size() + values.size());
    for (int64_t head = 0; head < config.heads; ++head) {
      for (int64_t i = 0; i < still; ++i) {
        for (int64_t j = 0; j < latent; ++j) {
          joined.push_back(keys[static_cast<size_t>((head * latent + j) * still + i)]);
        }
      }
      const auto first = values.begin() + head * size * latent;
      joined.insert(joined.end(), first, first + size * latent);
    }
    PackOptions options = options_;
    options.repack = true;
    const Shape shape = {config.heads * (still + size), latent};
    const auto bytes = std::as_bytes(std::span<const float>(joined));
    weights.key_value =
        PackedMatrix::pack({&format_named("F32"), shape, bytes}, {}, options, pool_);
  }

  void load_mlp(LayerWeights& weights) const {
    for (const Role role : {Role::kGateUp, Role::kGate, Role::kUp, Role::kDown}) {
      load_into(weights, role);
    }
  }

  void load_into(LayerWeights& weights, Role role) const {
    const Weight* weight = model_.find(role, layer_);
    if (weight == nullptr) return;
    for (const MatrixPart& part : parts_of(*weight, model_.config, weights)) {
      *part.matrix = load_rows(*weight, {part.begin, part.count}, options_, pool_);
    }
  }

  void load_experts(ExpertWeights& experts) const {
    const ModelConfig& config = model_.config;
    experts.router = load_matrix(weight_of(model_, Role::kRouter, layer_), options_, pool_);
    const auto load = [&](Role role, int64_t rows, std::vector<PackedMatrix>& matrices) {
      const Weight& weight = weight_of(model_, role, layer_);
      for (int64_t i = 0; i < config.experts; ++i) {
        matrices.push_back(load_rows(weight, {i * rows, rows}, options_, pool_));
      }
    };
    load(Role::kExpertGate, config.expert_ffn, experts.gate);
    load(Role::kExpertUp, config.expert_ffn, experts.up);
    load(Role::kExpertDown, config.hidden, experts.down);
    if (config.shared_ffn == 0) return;
    const auto load_shared = [&](Role role) {
      return load_matrix(weight_of(model_, role, layer_), options_, pool_);
    };
    experts.shared_gate = load_shared(Role::kSharedGate);
    experts.shared_up = load_shared(Role::kSharedUp);
    experts.shared_down = load_shared(Role::kSharedDown);
  }

  std::vector<float> vector(Role role) const { return load_values(model_, role, layer_); }

  const Model& model_;
  int64_t layer_;
  PackOptions options_;
  ThreadPool& pool_;
};

int64_t bytes_of(std::span<const PackedMatrix> matrices) {
  int64_t bytes = 0;
  for (const PackedMatrix& matrix : matrices) bytes += matrix.bytes();
  return bytes;
}

/// Of one token: of the experts, those it goes to.
int64_t bytes_read(const LayerWeights& layer, const ModelConfig& config) {
  int64_t bytes = 0;
  for (const PackedMatrix* matrix :
       {&layer.query, &layer.key, &layer.value, &layer.latent, &layer.key_value,
        &layer.attention_output, &layer.gate, &layer.up, &layer.down, &layer.experts.router,
        &layer.experts.shared_gate, &layer.experts.shared_up, &layer.experts.shared_down}) {
    bytes += matrix->bytes();
  }
  if (config.experts > 0) {
    const ExpertWeights& experts = layer.experts;
    bytes += (bytes_of(experts.gate) + bytes_of(experts.up) + bytes_of(experts.down)) *
             config.experts_used / config.experts;
  }
  for (const NormWeights* norm :
       {&layer.attention_norm, &layer.attention_post_norm, &layer.mlp_norm, &layer.mlp_post_norm}) {
    bytes += static_cast<int64_t>((norm->gain.size() + norm->bias.size()) * sizeof(float));
  }
  return bytes;
}

}  // namespace

std::vector<MatrixPart> parts_of(const Weight& weight, const ModelConfig& config,
                                 LayerWeights& weights) {
  const int64_t query = config.heads * config.head_dim, key = config.kv_heads * config.head_dim;
  const auto whole = [&](PackedMatrix& matrix) {
    return std::vector<MatrixPart>{{&matrix, 0, weight.rows()}};
  };
  switch (weight.role) {
    case Role::kQueryKeyValue:
      return {{&weights.query, 0, query},
              {&weights.key, query, key},
              {&weights.value, query + key, key}};
    case Role::kGateUp:
      return {{&weights.gate, 0, config.ffn}, {&weights.up, config.ffn, config.ffn}};
    case Role::kQuery:
      return whole(weights.query);
    case Role::kKey:
      return whole(weights.key);
    case Role::kValue:
      return whole(weights.value);
    case Role::kLatent:
      return whole(weights.latent);
    case Role::kKeyValue:
      return whole(weights.key_value);
    case Role::kAttentionOutput:
      return whole(weights.attention_output);
    case Role::kGate:
      return whole(weights.gate);
    case Role::kUp:
      return whole(weights.up);
    case Role::kDown:
      return whole(weights.down);
    default:
      return {};
  }
}

LayerWeights load_layer(const Model& model, int64_t layer, PackOptions options, ThreadPool& pool) {
  return LayerLoader(model, layer, options, pool).load();
}

RopeTable rope_table(const Model& model, int64_t most_tokens) {
  const ModelConfig& config = model.config;
  RopeFrequencies frequencies{.local = local_rope_frequencies(config),
                              .near_context = config.rope_scaling.original_context,
                              .magnitude = config.rope_scaling.magnitude};
  const auto with = [&](Role factors) {
    return rope_frequencies(config, load_values(model, factors));
  };
  const bool two_sets = model.find(Role::kRopeFactorsLong) != nullptr;
  frequencies.all = with(two_sets ? Role::kRopeFactorsShort : Role::kRopeFactors);
  if (two_sets) frequencies.far = with(Role::kRopeFactorsLong);
  return {std::move(frequencies), most_tokens};
}

struct Engine::Impl {
  Impl(const Model& source, ThreadPool& crew, EngineOptions wanted)
      : model(source),
        config(source.config),
        pool(crew),
        batch(std::max<int64_t>(1, wanted.batch)),
        embedder(model),
        rope(rope_table(model, batch)),
        buffers(std::in_place, config, batch, pool.threads()),
        hidden(static_cast<size_t>(batch * config.hidden)) {
    wanted.pack.float_math |= wants_floats(model, wanted.activations);
    load(wanted);
  }

  void load(const EngineOptions& options);
  void place(std::span<const Token> tokens, std::span<KvCache* const> caches);
  void pass(std::span<const Token> tokens, std::span<KvCache* const> caches);
  void embed(std::span<const Token> tokens, std::span<const int64_t> positions);
  void embed(std::span<const Token> tokens, int64_t first_position);
  void norm_last(int64_t pass_tokens, int64_t rows, float* out);
  void finish_logits(float* logits) const;
  const PackedMatrix& output_matrix() const { return output ? *output : embedding; }

  const Model& model;
  const ModelConfig& config;
  ThreadPool& pool;
  int64_t batch;
  PackedMatrix embedding;
  std::optional<PackedMatrix> output;  ///< none: tied to the embedding
  NormWeights output_norm;
  std::vector<float> output_bias;
  std::vector<LayerWeights> layers;
  Embedder embedder;
  RopeTable rope;
  std::optional<LayerBuffers> buffers;  ///< always there: made anew where passes grow
  Activations output_input;
  std::vector<float> hidden;  ///< [batch][hidden size]
  std::vector<int64_t> positions;
  std::vector<LayerCache> parts;
  std::vector<float> finals;  ///< what forward returned last
};

void Engine::Impl::load(const EngineOptions& options) {
  const PackOptions& pack = options.pack;
  // A table that is only looked up stays in the file: a few rows of it are ever read.
  const PackOptions lookup{.repack = false, .float_math = pack.float_math};
  const Weight& table = weight_of(model, Role::kEmbedding);
  embedding = load_matrix(table, config.tied_embeddings ? pack : lookup, pool);
  // The largest first: while it is packed, its source pages are in memory too.
  if (!config.tied_embeddings) output = load_matrix(weight_of(model, Role::kOutput), pack, pool);
  for (int64_t layer = 0; layer < config.layers; ++layer) {
    layers.push_back(load_layer(model, layer, pack, pool));
    layers.back().rounding = layer_rounding(model, layer, layers.back(), options.activations);
  }
  output_norm = load_norm(model, Role::kOutputNorm, Role::kOutputNormBias);
  output_bias = load_values(model, Role::kOutputBias);
}

void Engine::Impl::embed(std::span<const Token> tokens, int64_t first_position) {
  positions.resize(tokens.size());
  std::iota(positions.begin(), positions.end(), first_position);
  embed(tokens, positions);
}

void Engine::Impl::embed(std::span<const Token> tokens, std::span<const int64_t> positions_of) {
  const auto count = static_cast<int64_t>(tokens.size());
  parallel_for(pool, count, kEmbeddingRowsPerTask, [&](int64_t i) {
    float* row = hidden.data() + i * config.hidden;
    embedding.decode_row(tokens[static_cast<size_t>(i)], row);
    embedder.finish(row, positions_of[static_cast<size_t>(i)]);
  });
}

/// Positions of a pass: of one sequence, or of one token of each of several.
void Engine::Impl::place(std::span<const Token> tokens, std::span<KvCache* const> caches) {
  const KvCache& first = *caches.front();
  if (caches.size() == 1) {
    embed(tokens, first.length());
    return rope.prepare(first.length(), std::ssize(tokens), first.capacity());
  }
  positions.clear();
  for (const KvCache* cache : caches) {
    rope.prepare_token(std::ssize(positions), cache->length(), cache->capacity());
    positions.push_back(cache->length());
  }
  embed(tokens, positions);
}

/// All layers over at most `batch` tokens.
void Engine::Impl::pass(std::span<const Token> tokens, std::span<KvCache* const> caches) {
  place(tokens, caches);
  LayerContext context{config, rope, *buffers, pool};
  const std::span states(hidden.data(), tokens.size() * static_cast<size_t>(config.hidden));
  for (int64_t layer = 0; layer < config.layers; ++layer) {
    // One token is done sooner than anyone notices; a prompt may take minutes.
    if (tokens.size() > 1) throw_if_interrupted();
    parts.clear();
    for (KvCache* cache : caches) parts.push_back(cache->layer(layer));
    forward_layer(layers[static_cast<size_t>(layer)], states, parts, context);
  }
  if (caches.size() == 1) return caches.front()->append(tokens);
  for (size_t i = 0; i < caches.size(); ++i) caches[i]->append(tokens.subspan(i, 1));
}

/// Bias, scale and soft cap of one row.
void Engine::Impl::finish_logits(float* logits) const {
  const int64_t count = config.vocabulary;
  if (!output_bias.empty()) kernels().add(logits, output_bias.data(), count);
  if (config.logit_scale != 1) {
    const auto scale = static_cast<float>(config.logit_scale);
    for (int64_t i = 0; i < count; ++i) logits[i] *= scale;
  }
  if (config.logit_cap > 0) {
    kernels().soft_cap(logits, static_cast<float>(config.logit_cap), count);
  }
}

/// The output norm of the last `rows` of a pass.
void Engine::Impl::norm_last(int64_t pass_tokens, int64_t rows, float* out) {
  const float* first = hidden.data() + (pass_tokens - rows) * config.hidden;
  if (output_norm.gain.empty()) {
    std::copy_n(first, rows * config.hidden, out);
    return;
  }
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t offset = row * config.hidden;
    apply_norm(output_norm, config, first + offset, out + offset);
  }
}

Engine::Engine(const Model& model, ThreadPool& pool, EngineOptions options)
    : impl_(std::make_unique<Impl>(model, pool, options)) {}

Engine::~Engine() = default;

const Model& Engine::model() const {
  return impl_->model;
}

const ModelConfig& Engine::config() const {
  return impl_->config;
}

void Engine::grow(int64_t batch) {
  if (batch <= impl_->batch) return;
  impl_->batch = batch;
  impl_->rope = rope_table(model(), batch);
  impl_->buffers.emplace(config(), batch, impl_->pool.threads());
  impl_->hidden.resize(static_cast<size_t>(batch * config().hidden));
}

int64_t Engine::weight_bytes() const {
  const PackedMatrix& output = impl_->output_matrix();
  int64_t bytes = output.bytes() + row_bytes(impl_->embedding.format(), config().hidden);
  bytes += static_cast<int64_t>(impl_->output_norm.gain.size() * sizeof(float));
  for (const LayerWeights& layer : impl_->layers) bytes += bytes_read(layer, config());
  return bytes;
}

std::span<const float> Engine::forward(std::span<const Token> tokens, KvCache& cache,
                                       int64_t rows) {
  const auto count = static_cast<int64_t>(tokens.size());
  const int64_t hidden = config().hidden;
  check(count <= cache.capacity() - cache.length());
  check(config().design.causal || count <= impl_->batch);  // all must see each other
  check(rows >= 0 && rows <= count);
  if (count > 0) check_position(cache.length() + count - 1, config());
  check(std::ranges::all_of(tokens, [&](Token t) { return t >= 0 && t < config().vocabulary; }));
  impl_->finals.resize(static_cast<size_t>(rows * hidden));
  const int64_t most = std::min(impl_->batch, cache.most_pass());
  for (int64_t begin = 0; begin < count; begin += most) {
    const int64_t size = std::min(most, count - begin);
    KvCache* const only = &cache;
    impl_->pass(tokens.subspan(static_cast<size_t>(begin), static_cast<size_t>(size)), {&only, 1});
    const int64_t first_wanted = std::max(begin, count - rows);
    if (first_wanted >= begin + size) continue;
    float* out = impl_->finals.data() + (first_wanted - (count - rows)) * hidden;
    impl_->norm_last(size, begin + size - first_wanted, out);
  }
  return impl_->finals;
}

std::span<const float> Engine::forward_each(std::span<const Token> tokens,
                                            std::span<KvCache* const> caches) {
  check(!tokens.empty() && tokens.size() == caches.size());
  check(config().design.causal && std::ssize(tokens) <= impl_->batch);
  for (const KvCache* cache : caches) {
    check(cache->length() < cache->capacity());
    check_position(cache->length(), config());
  }
  check(std::ranges::all_of(tokens, [&](Token t) { return t >= 0 && t < config().vocabulary; }));
  const int64_t count = std::ssize(tokens);
  impl_->finals.resize(static_cast<size_t>(count * config().hidden));
  impl_->pass(tokens, caches);
  impl_->norm_last(count, count, impl_->finals.data());
  return impl_->finals;
}

LayerWeights& Engine::layer(int64_t index) {
  return impl_->layers[static_cast<size_t>(index)];
}

std::vector<float> Engine::embed(std::span<const Token> tokens) {
  check(std::ssize(tokens) <= impl_->batch);
  impl_->embed(tokens, 0);
  const auto size = std::ssize(tokens) * config().hidden;
  return {impl_->hidden.begin(), impl_->hidden.begin() + size};
}

void Engine::run_layer(int64_t index, std::span<float> states, KvCache& cache) {
  check(cache.length() == 0);
  impl_->rope.prepare(0, std::ssize(states) / config().hidden);
  LayerContext context{config(), impl_->rope, *impl_->buffers, impl_->pool};
  forward_layer(layer(index), states, cache.layer(index), context);
}

void Engine::norm(std::span<float> states) const {
  if (impl_->output_norm.gain.empty()) return;
  const int64_t hidden = config().hidden;
  for (int64_t row = 0; row < std::ssize(states) / hidden; ++row) {
    float* values = states.data() + row * hidden;
    apply_norm(impl_->output_norm, config(), values, values);
  }
}

void Engine::logits(std::span<const float> hidden, int64_t rows, float* out) {
  check(static_cast<int64_t>(hidden.size()) == rows * config().hidden);
  impl_->output_input.assign(hidden.data(), rows, config().hidden);
  const MatrixProduct product{&impl_->output_matrix(), out, config().vocabulary};
  multiply({&product, 1}, impl_->output_input, impl_->pool);
  parallel_for(impl_->pool, rows, 1,
               [&](int64_t row) { impl_->finish_logits(out + row * config().vocabulary); });
}

}  // namespace fewbits
