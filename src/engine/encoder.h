#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "base/thread_pool.h"
#include "engine/engine.h"

namespace fewbits {

/// Texts to vectors: the forward pass of a model that says how its hidden states become one vector
/// (ModelConfig::pooling). `model` and `pool` must outlive it.
class Encoder {
 public:
  /// Throws Error for a model without pooling.
  Encoder(const Model& model, ThreadPool& pool, EngineOptions options = {});
  ~Encoder();
  Encoder(const Encoder&) = delete;
  Encoder& operator=(const Encoder&) = delete;

  /// [hidden size], of length 1 unless it is all zero. A text beyond the model's context is cut at
  /// its end; the tokens that the model puts around a text stay. Throws Interrupted.
  std::vector<float> embed(std::string_view text);
  /// What embed() reads of a text.
  std::vector<Token> tokens_of(std::string_view text) const;
  const Model& model() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Divides by the Euclidean length; leaves zeros alone.
void normalize(std::vector<float>& vector);

}  // namespace fewbits
