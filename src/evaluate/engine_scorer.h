#pragma once

#include "engine/engine.h"
#include "evaluate/scorer.h"

namespace fewbits {

/// A model of ours as a Scorer. `model` and `pool` must outlive it.
class EngineScorer : public Scorer {
 public:
  /// Loads the weights, and a cache of `capacity` tokens. Throws Error where the model was trained
  /// for fewer.
  EngineScorer(const Model& model, ThreadPool& pool, int64_t capacity, EngineOptions options = {},
               const KvOptions& kv = {});

  int64_t vocabulary() const override;
  int64_t capacity() const override { return cache_.capacity(); }
  void truncate(int64_t length) override { cache_.truncate(length); }
  void append(std::span<const Token> tokens, int64_t rows) override;
  void logits(int64_t first, int64_t count, float* out) override;

 private:
  Engine engine_;
  KvCache cache_;
  std::span<const float> hidden_;  ///< of the kept rows; valid until the next append
};

}  // namespace fewbits
