#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "model/config.h"
#include "model/tokenizer.h"

namespace fewbits {

/// Keys that lie side by side in a KvCache.
inline constexpr int64_t kKeysPerGroup = 16;

/// One layer's part of a KvCache, each head's keys and values contiguous: values as rows of
/// head_dim halves, keys in groups of 16, dimension 0 of all 16, then dimension 1, so that scores
/// of 16 keys are computed side by side and no sum crosses lanes.
struct LayerCache {
  uint16_t* keys;
  uint16_t* values;
  int64_t capacity;  ///< of each head, whole groups
  int64_t head_dim;
  int64_t length;  ///< positions filled before this pass

  /// Dimension 0 of a key; the next ones follow kKeysPerGroup apart.
  uint16_t* key(int64_t head, int64_t position) const {
    return keys + (head * capacity + position / kKeysPerGroup * kKeysPerGroup) * head_dim +
           position % kKeysPerGroup;
  }
  uint16_t* value(int64_t head, int64_t position) const {
    return values + (head * capacity + position) * head_dim;
  }
};

/// Keys and values of one sequence, IEEE halves: [layer][kv head] of LayerCache. It remembers
/// which tokens it holds, so that a conversation that goes on need not be read again. Memory is
/// reserved at once and used as positions fill.
class KvCache {
 public:
  /// Throws Error where so much memory cannot be had.
  KvCache(const ModelConfig& config, int64_t capacity);

  int64_t capacity() const { return capacity_; }
  int64_t length() const { return static_cast<int64_t>(tokens_.size()); }
  std::span<const Token> tokens() const { return tokens_; }
  int64_t bytes() const { return 2 * layer_stride_ * layers_ * int64_t{sizeof(uint16_t)}; }
  int64_t position_bytes() const { return bytes() / positions_; }

  /// Forgets everything from position `length` on.
  void truncate(int64_t length);

  /// Where a pass over the next tokens reads and writes. REQUIRES: 0 <= layer < layers.
  LayerCache layer(int64_t layer);

  /// After a pass over all layers: the positions of `tokens` are filled. REQUIRES: they fit.
  void append(std::span<const Token> tokens);

 private:
  int64_t capacity_;
  int64_t positions_;  ///< reserved: the capacity in whole groups
  int64_t layers_;
  int64_t head_dim_;
  int64_t layer_stride_ = 0;
  std::vector<Token> tokens_;
  std::unique_ptr<uint16_t[]> keys_, values_;
};

}  // namespace fewbits
