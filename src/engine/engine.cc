#include "engine/engine.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "base/error.h"
#include "base/interrupt.h"
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

std::vector<float> load_vector(const Weight& weight) {
  const TensorView& view = weight.tensor->view;
  std::vector<float> values(static_cast<size_t>(view.values()));
  decode(*view.format, view.bytes.data(), view.values(), values.data());
  return values;
}

PackedMatrix load_matrix(const Weight& weight, PackOptions options, ThreadPool& pool) {
  throw_if_interrupted();
  const StoredTensor& tensor = *weight.tensor;
  PackedMatrix packed = PackedMatrix::pack(tensor.view, weight.stored_rows, options, pool);
  if (options.repack) tensor.file->drop(tensor.view.bytes);
  return packed;
}

int64_t bytes_read(const LayerWeights& layer) {
  const auto norms = (layer.attention_norm.size() + layer.mlp_norm.size()) * sizeof(float);
  return layer.query.bytes() + layer.key.bytes() + layer.value.bytes() +
         layer.attention_output.bytes() + layer.gate.bytes() + layer.up.bytes() +
         layer.down.bytes() + static_cast<int64_t>(norms);
}

}  // namespace

LayerWeights load_layer(const Model& model, int64_t layer, PackOptions options, ThreadPool& pool) {
  const auto vector = [&](Role role) { return load_vector(weight_of(model, role, layer)); };
  const auto matrix = [&](Role role) {
    return load_matrix(weight_of(model, role, layer), options, pool);
  };
  return {.attention_norm = vector(Role::kAttentionNorm),
          .mlp_norm = vector(Role::kMlpNorm),
          .query = matrix(Role::kQuery),
          .key = matrix(Role::kKey),
          .value = matrix(Role::kValue),
          .attention_output = matrix(Role::kAttentionOutput),
          .gate = matrix(Role::kGate),
          .up = matrix(Role::kUp),
          .down = matrix(Role::kDown)};
}

std::vector<float> load_rope_factors(const Model& model) {
  const Weight* weight = model.find(Role::kRopeFactors);
  return weight == nullptr ? std::vector<float>() : load_vector(*weight);
}

struct Engine::Impl {
  Impl(const Model& source, ThreadPool& crew, EngineOptions wanted)
      : model(source),
        config(source.config),
        pool(crew),
        batch(std::max<int64_t>(1, wanted.batch)),
        rope(rope_frequencies(config, load_rope_factors(model)), batch),
        buffers(config, batch, pool.threads()),
        hidden(static_cast<size_t>(batch * config.hidden)) {
    load(wanted.pack);
  }

  void load(PackOptions pack);
  void pass(std::span<const Token> tokens, KvCache& cache);
  void embed(std::span<const Token> tokens);
  void norm_last(int64_t pass_tokens, int64_t rows, float* out);
  const PackedMatrix& output_matrix() const { return output ? *output : embedding; }

  const Model& model;
  const ModelConfig& config;
  ThreadPool& pool;
  int64_t batch;
  PackedMatrix embedding;
  std::optional<PackedMatrix> output;  ///< none: tied to the embedding
  std::vector<float> output_norm;
  std::vector<LayerWeights> layers;
  RopeTable rope;
  LayerBuffers buffers;
  Activations output_input;
  std::vector<float> hidden;  ///< [batch][hidden size]
  std::vector<float> finals;  ///< what forward returned last
};

void Engine::Impl::load(PackOptions pack) {
  // A table that is only looked up stays in the file: a few rows of it are ever read.
  const PackOptions lookup{.repack = false, .float_math = pack.float_math};
  const Weight& table = weight_of(model, Role::kEmbedding);
  embedding = load_matrix(table, config.tied_embeddings ? pack : lookup, pool);
  // The largest first: while it is packed, its source pages are in memory too.
  if (!config.tied_embeddings) output = load_matrix(weight_of(model, Role::kOutput), pack, pool);
  for (int64_t layer = 0; layer < config.layers; ++layer) {
    layers.push_back(load_layer(model, layer, pack, pool));
  }
  output_norm = load_vector(weight_of(model, Role::kOutputNorm));
}

void Engine::Impl::embed(std::span<const Token> tokens) {
  const auto count = static_cast<int64_t>(tokens.size());
  parallel_for(pool, count, kEmbeddingRowsPerTask, [&](int64_t i) {
    embedding.decode_row(tokens[static_cast<size_t>(i)], hidden.data() + i * config.hidden);
  });
}

/// All layers over at most `batch` tokens.
void Engine::Impl::pass(std::span<const Token> tokens, KvCache& cache) {
  embed(tokens);
  rope.prepare(cache.length(), static_cast<int64_t>(tokens.size()));
  LayerContext context{config, rope, buffers, pool};
  const std::span states(hidden.data(), tokens.size() * static_cast<size_t>(config.hidden));
  for (int64_t layer = 0; layer < config.layers; ++layer) {
    // One token is done sooner than anyone notices; a prompt may take minutes.
    if (tokens.size() > 1) throw_if_interrupted();
    forward_layer(layers[static_cast<size_t>(layer)], states, cache.layer(layer), context);
  }
  cache.append(tokens);
}

/// The output norm of the last `rows` of a pass.
void Engine::Impl::norm_last(int64_t pass_tokens, int64_t rows, float* out) {
  const auto epsilon = static_cast<float>(config.norm_epsilon);
  const float* first = hidden.data() + (pass_tokens - rows) * config.hidden;
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t offset = row * config.hidden;
    kernels().rms_norm(first + offset, output_norm.data(), epsilon, config.hidden, out + offset);
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

int64_t Engine::weight_bytes() const {
  const PackedMatrix& output = impl_->output_matrix();
  int64_t bytes = output.bytes() + row_bytes(impl_->embedding.format(), config().hidden);
  bytes += static_cast<int64_t>(impl_->output_norm.size() * sizeof(float));
  for (const LayerWeights& layer : impl_->layers) bytes += bytes_read(layer);
  return bytes;
}

std::span<const float> Engine::forward(std::span<const Token> tokens, KvCache& cache,
                                       int64_t rows) {
  const auto count = static_cast<int64_t>(tokens.size());
  const int64_t hidden = config().hidden;
  check(count <= cache.capacity() - cache.length());
  check(rows >= 0 && rows <= count);
  check(std::ranges::all_of(tokens, [&](Token t) { return t >= 0 && t < config().vocabulary; }));
  impl_->finals.resize(static_cast<size_t>(rows * hidden));
  for (int64_t begin = 0; begin < count; begin += impl_->batch) {
    const int64_t size = std::min(impl_->batch, count - begin);
    impl_->pass(tokens.subspan(static_cast<size_t>(begin), static_cast<size_t>(size)), cache);
    const int64_t first_wanted = std::max(begin, count - rows);
    if (first_wanted >= begin + size) continue;
    float* out = impl_->finals.data() + (first_wanted - (count - rows)) * hidden;
    impl_->norm_last(size, begin + size - first_wanted, out);
  }
  return impl_->finals;
}

void Engine::logits(std::span<const float> hidden, int64_t rows, float* out) {
  check(static_cast<int64_t>(hidden.size()) == rows * config().hidden);
  impl_->output_input.assign(hidden.data(), rows, config().hidden);
  const MatrixProduct product{&impl_->output_matrix(), out, config().vocabulary};
  multiply({&product, 1}, impl_->output_input, impl_->pool);
}

}  // namespace fewbits
