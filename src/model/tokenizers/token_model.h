#pragma once

#include <vector>

#include "model/tokenizers/pre_tokenizer.h"
#include "model/tokenizers/vocabulary.h"

namespace fewbits {

/// The third stage: words to tokens. Immutable, shared between threads.
class TokenModel {
 public:
  virtual ~TokenModel() = default;
  /// Appends the tokens of each word in turn.
  virtual void encode(const Words& words, std::vector<Token>& tokens) const = 0;
};

}  // namespace fewbits
