#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "model/tokenizer.h"

namespace fewbits {

/// Called as work goes on with the parts done and the parts in all, which do not change.
using Progress = std::function<void(int64_t done, int64_t total)>;

/// What measuring needs of a model: it reads tokens and tells what it expects next. One sequence at
/// a time.
///
/// An interface, because two models must run side by side and because a test wants a model whose
/// probabilities it knows. The real one is EngineScorer.
class Scorer {
 public:
  virtual ~Scorer() = default;

  virtual int64_t vocabulary() const = 0;

  /// The most tokens one sequence may have.
  virtual int64_t capacity() const = 0;

  /// Forgets everything from position `length` on; 0 starts anew.
  virtual void truncate(int64_t length) = 0;

  /// Reads `tokens` after those already read and keeps what `logits` needs for the last `rows` of
  /// them. REQUIRES: 1 <= rows <= tokens.size(); all fit the capacity.
  virtual void append(std::span<const Token> tokens, int64_t rows) = 0;

  /// Logits for the token that follows each of `count` kept rows, from row `first` on: out
  /// [count][vocabulary()]. REQUIRES: first + count <= rows of the last append.
  virtual void logits(int64_t first, int64_t count, float* out) = 0;
};

}  // namespace fewbits
