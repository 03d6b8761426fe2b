#include "engine/encoder.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace fewbits {
namespace {

/// One vector of all tokens' hidden states, [tokens][hidden].
std::vector<float> pool_states(std::span<const float> states, Pooling pooling, size_t hidden) {
  const size_t tokens = states.size() / hidden;
  if (pooling == Pooling::kCls) return {states.begin(), states.begin() + static_cast<long>(hidden)};
  if (pooling == Pooling::kLast) return {states.end() - static_cast<long>(hidden), states.end()};
  std::vector<float> mean(hidden);
  for (size_t i = 0; i < hidden; ++i) {
    double sum = 0;
    for (size_t token = 0; token < tokens; ++token) {
      sum += static_cast<double>(states[token * hidden + i]);
    }
    mean[i] = static_cast<float>(sum / static_cast<double>(tokens));
  }
  return mean;
}

}  // namespace

struct Encoder::Impl {
  Impl(const Model& model, ThreadPool& pool, EngineOptions options)
      : model(model), engine(model, pool, options), cache(model.config, model.config.context) {}

  const Model& model;
  Engine engine;
  KvCache cache;
};

Encoder::Encoder(const Model& model, ThreadPool& pool, EngineOptions options) {
  if (model.config.pooling == Pooling::kNone) {
    throw Error(fmt::format(
        "{}: is no encoder: neither 1_Pooling/config.json nor the key '{}.pooling_type' says how "
        "its hidden states become one vector",
        model.path.string(), model.architecture->gguf_name));
  }
  impl_ = std::make_unique<Impl>(model, pool, options);
}

Encoder::~Encoder() = default;

const Model& Encoder::model() const {
  return impl_->model;
}

std::vector<Token> Encoder::tokens_of(std::string_view text) const {
  const Tokenizer& tokenizer = impl_->model.tokenizer;
  std::vector<Token> tokens = tokenizer.encode_with_bos(text);
  const auto most = static_cast<size_t>(impl_->model.config.context);
  if (tokens.size() <= most) return tokens;
  // What stands behind a text stays behind what is left of it.
  const std::vector<Token> around = tokenizer.encode_with_bos("");
  const size_t behind = tokenizer.adds_eos() && !around.empty() ? 1 : 0;
  const Token last = tokens.back();
  tokens.resize(most - behind);
  if (behind > 0) tokens.push_back(last);
  return tokens;
}

std::vector<float> Encoder::embed(std::string_view text) {
  const ModelConfig& config = impl_->model.config;
  const auto tokens = tokens_of(text);
  if (tokens.empty()) return std::vector<float>(static_cast<size_t>(config.hidden));
  impl_->cache.truncate(0);
  impl_->engine.grow(std::ssize(tokens));  // full attention wants all of a text in one pass
  const auto states =
      impl_->engine.forward(tokens, impl_->cache, static_cast<int64_t>(tokens.size()));
  auto vector = pool_states(states, config.pooling, static_cast<size_t>(config.hidden));
  normalize(vector);
  return vector;
}

void normalize(std::vector<float>& vector) {
  double square = 0;
  for (const float x : vector) square += static_cast<double>(x) * static_cast<double>(x);
  if (square == 0) return;
  const auto factor = static_cast<float>(1 / std::sqrt(square));
  for (float& x : vector) x *= factor;
}

}  // namespace fewbits
