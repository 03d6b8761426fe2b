#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "model/tokenizers/vocabulary.h"

namespace fewbits {

/// Texts as a tree of bytes: finds which of them a text begins with, one step a byte. Immutable
/// once built, safe to share between threads.
///
/// The children of a node lie side by side, in order of their bytes:
///
///   labels_   byte on the way into each node
///   begins_   first child of each node; its last is the one before the next node's first
///   tokens_   the token that ends in each node, or -1
class PrefixTrie {
 public:
  using Entry = std::pair<std::string_view, Token>;

  static constexpr int32_t kRoot = 0;
  static constexpr int32_t kNone = -1;

  PrefixTrie() = default;
  /// Of equal texts the last counts; empty ones are left out. The views need not outlive the call.
  explicit PrefixTrie(std::vector<Entry> entries);

  /// The node behind `node` by this byte, or kNone.
  int32_t child(int32_t node, char byte) const;
  /// The token that ends in this node, or -1.
  Token token(int32_t node) const { return tokens_[static_cast<size_t>(node)]; }

 private:
  void learn_fast_children();

  std::vector<uint8_t> labels_ = {0};
  std::vector<int32_t> begins_ = {1, 1};
  std::vector<Token> tokens_ = {-1};
  std::array<int32_t, 256> root_{};  ///< children of the root; 0: none
};

}  // namespace fewbits
