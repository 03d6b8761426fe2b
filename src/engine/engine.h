#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "kernels/matmul.h"
#include "model/model.h"

namespace fewbits {

/// Keys and values of one sequence, IEEE halves, each head's rows contiguous: [layer][kv head][position][head_dim].
class KvCache {
 public:
  KvCache(const ModelConfig& config, int64_t capacity);
  int64_t capacity() const { return capacity_; }
  int64_t length() const { return length_; }
  int64_t bytes() const;
  /// Forgets everything from position `length` on.
  void truncate(int64_t length);

 private:
  friend class Engine;
  int64_t capacity_ = 0;
  int64_t length_ = 0;
  std::vector<uint16_t> keys_, values_;
};

struct EngineOptions {
  PackOptions pack;
  int64_t batch = 512;   ///< most tokens in one pass; longer inputs are cut
};

/// The forward pass of a decoder over packed weights. One sequence at a time; `model` must outlive the engine.
class Engine {
 public:
  Engine(const Model& model, ThreadPool& pool, EngineOptions options = {});
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  const ModelConfig& config() const;
  int64_t weight_bytes() const;  ///< read for each decoded token (one embedding row, not the table)

  /// Appends `tokens` to the cache and returns the final hidden states (after the output norm) of the last `rows` tokens,
  /// [rows][hidden], valid until the next call. REQUIRES: they fit the cache, rows <= tokens.
  std::span<const float> forward(std::span<const Token> tokens, KvCache& cache, int64_t rows);

  /// Logits of final hidden states: out [rows][vocabulary].
  void logits(std::span<const float> hidden, int64_t rows, float* out);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace fewbits
