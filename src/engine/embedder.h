#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/layer.h"
#include "model/model.h"

namespace fewbits {

/// What makes a row of the embedding table the first hidden state of a token: its scale, the rows
/// for its position and token type, and a norm, each where the model has it.
class Embedder {
 public:
  explicit Embedder(const Model& model);

  /// Appends the first hidden states of a sequence from its start, [tokens][hidden size].
  void embed(std::span<const Token> tokens, std::vector<float>& states) const;

  /// In place, [hidden size]. Tokens are of type 0. Throws Error as check_position does.
  void finish(float* row, int64_t position) const;

 private:
  const ModelConfig& config_;
  const Weight* table_;
  std::vector<float> positions_;  ///< [position][hidden size]
  std::vector<float> type_;       ///< [hidden size]
  NormWeights norm_;
};

/// Throws Error for a position that a model with a table of them has no row for.
void check_position(int64_t position, const ModelConfig& config);

/// All values of a weight, rows in our order; empty where the model has no such weight.
std::vector<float> load_values(const Model& model, Role role, int64_t layer = -1);

NormWeights load_norm(const Model& model, Role gain, Role bias, int64_t layer = -1);

}  // namespace fewbits
