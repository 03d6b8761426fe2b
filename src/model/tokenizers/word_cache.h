#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "model/tokenizers/vocabulary.h"

namespace fewbits {

/// The tokens of words seen before, for the length of one text: a text repeats its words, and most
/// of the time they are found here. Keeps the first words that come, up to a fixed number, which in
/// any natural text are the frequent ones. Words are kept as views: the text must stay.
class WordCache {
 public:
  explicit WordCache(int64_t words_expected);

  /// Nothing where the word is new; an insert may follow.
  std::optional<std::span<const Token>> find(std::string_view word);
  /// Remembers the word that the last find() missed. Does nothing once full.
  void insert(std::string_view word, std::span<const Token> tokens);

 private:
  struct Slot {
    const char* word = nullptr;
    uint32_t word_size = 0;
    uint32_t token_count = 0;
    uint64_t hash = 0;
    size_t first_token = 0;
  };
  std::vector<Slot> slots_;
  std::vector<Token> tokens_;
  size_t mask_;
  size_t filled_ = 0;
  uint64_t missed_hash_ = 0;
  size_t missed_slot_ = 0;
};

}  // namespace fewbits
