#pragma once

#include <algorithm>
#include <functional>
#include <vector>

#include "base/error.h"
#include "evaluate/scorer.h"

namespace fewbits {

/// A model whose logits are a function of the tokens read so far. It remembers every call.
class FakeScorer : public Scorer {
 public:
  /// Fills `logits` (all 0 before) for the token after `read`, which has at least one.
  using Rule = std::function<void(std::span<const Token> read, std::span<float> logits)>;

  FakeScorer(int64_t vocabulary, Rule rule, int64_t capacity = 4096)
      : vocabulary_(vocabulary), capacity_(capacity), rule_(std::move(rule)) {}

  int64_t vocabulary() const override { return vocabulary_; }
  int64_t capacity() const override { return capacity_; }

  void truncate(int64_t length) override {
    check(length <= static_cast<int64_t>(read_.size()));
    read_.resize(static_cast<size_t>(length));
  }

  void append(std::span<const Token> tokens, int64_t rows) override {
    check(rows >= 1 && rows <= static_cast<int64_t>(tokens.size()));
    read_.insert(read_.end(), tokens.begin(), tokens.end());
    check(static_cast<int64_t>(read_.size()) <= capacity_);
    rows_ = rows;
    tokens_read += static_cast<int64_t>(tokens.size());
    sequences.push_back(read_);
  }

  void logits(int64_t first, int64_t count, float* out) override {
    check(first + count <= rows_);
    for (int64_t row = first; row < first + count; ++row, out += vocabulary_) {
      const size_t length = read_.size() - static_cast<size_t>(rows_ - 1 - row);
      const std::span logits(out, static_cast<size_t>(vocabulary_));
      std::fill(logits.begin(), logits.end(), 0.0f);
      rule_(std::span(read_).first(length), logits);
    }
  }

  std::vector<std::vector<Token>> sequences;  ///< all that had been read after each append
  int64_t tokens_read = 0;

 private:
  int64_t vocabulary_;
  int64_t capacity_;
  Rule rule_;
  std::vector<Token> read_;
  int64_t rows_ = 0;
};

}  // namespace fewbits
