#pragma once

#include <cstdint>
#include <vector>

#include "model/tokenizers/vocabulary.h"

namespace fewbits {

/// What two neighbouring symbols merge into, and how soon: the lowest rank goes first.
struct Merge {
  uint32_t rank = 0;
  Token merged = -1;
};

/// (left, right) -> Merge. The innermost lookup of BPE: an open-addressing table in one array, at
/// most half full, so that a miss, the common case, costs one or two cache lines.
class MergeTable {
 public:
  explicit MergeTable(int64_t expected = 0);

  /// Adds a pair, or replaces its merge. REQUIRES: left, right >= 0.
  void set(Token left, Token right, Merge merge);
  /// Null where the pair does not merge.
  const Merge* find(Token left, Token right) const {
    const uint64_t key = key_of(left, right);
    for (size_t slot = slot_of(key);; slot = (slot + 1) & mask_) {
      if (slots_[slot].key == key) return &slots_[slot].merge;
      if (slots_[slot].key == kEmpty) return nullptr;
    }
  }
  int64_t size() const { return size_; }

  struct Entry {
    Token left;
    Token right;
    Merge merge;
  };
  /// All pairs, the lowest rank first.
  std::vector<Entry> entries() const;

 private:
  static constexpr uint64_t kEmpty = ~uint64_t{0};
  struct Slot {
    uint64_t key = kEmpty;
    Merge merge;
  };
  static uint64_t key_of(Token left, Token right) {
    return (static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32) |
           static_cast<uint32_t>(right);
  }
  static Token left_of(uint64_t key) { return static_cast<Token>(key >> 32); }
  static Token right_of(uint64_t key) { return static_cast<Token>(key & 0xffffffffu); }
  size_t slot_of(uint64_t key) const {
    return static_cast<size_t>((key * 0x9E3779B97F4A7C15u) >> 32) & mask_;  // Fibonacci hashing
  }
  void grow();

  std::vector<Slot> slots_;
  size_t mask_;
  int64_t size_ = 0;
};

}  // namespace fewbits
