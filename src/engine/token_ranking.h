#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "model/tokenizer.h"

namespace fewbits {

/// The tokens of a vocabulary by falling logit, equals by id, found only as far as they are asked
/// for: most draws end among the first few of tens of thousands.
class TokenRanking {
 public:
  struct Entry {
    float logit;
    Token token;
  };

  /// The logits, of one token at least, must stay as they are while this ranks them. Throws Error
  /// where they are not finite.
  void begin(std::span<const float> logits);

  size_t size() const { return logits_.size(); }
  const Entry& likeliest() { return at(0); }

  /// REQUIRES: rank < size().
  const Entry& at(size_t rank);

 private:
  void find_first(size_t count);
  void collect(float threshold);

  std::span<const float> logits_;
  std::vector<int32_t> maxima_, scratch_;  ///< of blocks of logits, as integers of the same order
  std::vector<Entry> entries_;             ///< the first sorted_ are in order
  size_t sorted_ = 0;
};

}  // namespace fewbits
