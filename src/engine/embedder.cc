#include "engine/embedder.h"

#include <fmt/format.h>

#include "base/error.h"
#include "kernels/kernel_table.h"

namespace fewbits {

std::vector<float> load_values(const Model& model, Role role, int64_t layer) {
  const Weight* weight = model.find(role, layer);
  if (weight == nullptr) return {};
  std::vector<float> values(static_cast<size_t>(weight->values()));
  for (int64_t row = 0; row < weight->rows(); ++row) {
    weight->read_row(row, values.data() + row * weight->columns());
  }
  return values;
}

NormWeights load_norm(const Model& model, Role gain, Role bias, int64_t layer) {
  return {load_values(model, gain, layer), load_values(model, bias, layer)};
}

Embedder::Embedder(const Model& model)
    : config_(model.config),
      table_(model.find(Role::kEmbedding)),
      positions_(load_values(model, Role::kPositions)),
      type_(load_values(model, Role::kTokenTypes)),
      norm_(load_norm(model, Role::kEmbeddingNorm, Role::kEmbeddingNormBias)) {
  check(table_ != nullptr && table_->columns() == config_.hidden);
  if (!type_.empty()) type_.resize(static_cast<size_t>(config_.hidden));
}

void check_position(int64_t position, const ModelConfig& config) {
  if (config.has_rope() || position < config.context) return;
  throw Error(
      fmt::format("position {} is beyond the {} that the model has learned; use fewer tokens",
                  position, config.context));
}

void Embedder::embed(std::span<const Token> tokens, std::vector<float>& states) const {
  const size_t begin = states.size(), width = static_cast<size_t>(config_.hidden);
  states.resize(begin + tokens.size() * width);
  for (size_t position = 0; position < tokens.size(); ++position) {
    float* row = states.data() + begin + position * width;
    table_->read_row(tokens[position], row);
    finish(row, static_cast<int64_t>(position));
  }
  table_->drop_pages();
}

void Embedder::finish(float* row, int64_t position) const {
  const int64_t hidden = config_.hidden;
  if (config_.embedding_scale != 1) {
    const auto scale = static_cast<float>(config_.embedding_scale);
    for (int64_t i = 0; i < hidden; ++i) row[i] *= scale;
  }
  if (!positions_.empty()) {
    check_position(position, config_);
    const int64_t offset = (position + config_.position_offset) * hidden;
    kernels().add(row, positions_.data() + offset, hidden);
  }
  if (!type_.empty()) kernels().add(row, type_.data(), hidden);
  if (!norm_.gain.empty()) apply_norm(norm_, config_, row, row);
}

}  // namespace fewbits
