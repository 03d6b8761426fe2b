#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/kv_codec.h"
#include "kernels/rotation.h"
#include "model/config.h"
#include "model/tokenizer.h"

namespace fewbits {

/// Keys that lie side by side in a KvCache.
inline constexpr int64_t kKeysPerGroup = 16;

/// How a cache keeps keys and values. Where both are f16 the rest makes no difference.
struct KvOptions {
  std::string key = "f16", value = "f16";  ///< names of kv_formats()
  int64_t oldest = 0;                      ///< tokens at the start that stay f16
  int64_t recent = 0;                      ///< tokens at the end that stay f16, at least
  bool centred = false;     ///< keys are coded less their mean, which softmax does not see
  int64_t most_pass = 512;  ///< tokens that one pass may add

  bool coded() const { return key != "f16" || value != "f16"; }
};

/// "q8_0", or of keys and values "turbo3:turbo2", with the options that measured best for them.
/// Throws Error.
KvOptions kv_options(std::string_view text);

/// What the layers of a coded cache share.
struct KvCoding {
  KvCoding(const KvOptions& options, int64_t key_dim, int64_t value_dim);

  /// Positions [oldest, this) are coded once the cache holds `length` tokens.
  int64_t coded_end(int64_t length) const;

  KvOptions options;
  KvCodec key, value;
  std::optional<Rotation> key_rotation, value_rotation;
};

/// Some positions of one layer as IEEE halves: for each head values as rows, keys in groups of 16,
/// dimension 0 of all 16, then dimension 1, so that scores of 16 keys are computed side by side and
/// no sum crosses lanes.
struct HalfStore {
  uint16_t* keys = nullptr;
  uint16_t* values = nullptr;
  int64_t capacity = 0;  ///< positions of each head, whole groups
  int64_t first = 0;     ///< position
};

/// One layer's part of a KvCache. In a coded cache, new tokens are halves; whole chunks of 32 that
/// are old enough are coded, and their halves given up. Where a format is rotated, so are all its
/// halves. A chunk c is that of the positions oldest + 32 c and following.
struct LayerCache {
  HalfStore recent, oldest_tokens;
  int64_t oldest = 0;  ///< tokens in oldest_tokens
  int64_t key_dim = 0, value_dim = 0;
  int64_t capacity = 0;
  int64_t length = 0;  ///< positions filled before this pass

  const KvCoding* coding = nullptr;  ///< null: all are halves
  uint8_t* key_chunks = nullptr;
  uint8_t* value_chunks = nullptr;
  int64_t chunks = 0;      ///< of each head
  int64_t coded_end = 0;   ///< positions [oldest, coded_end) were coded before this pass
  float* means = nullptr;  ///< [kv head][key_dim], of the coded keys; zeros before the first

  const HalfStore& store_of(int64_t position) const {
    return position < oldest ? oldest_tokens : recent;
  }
  /// Dimension 0 of a key; the next ones follow kKeysPerGroup apart.
  uint16_t* key(int64_t head, int64_t position) const {
    const HalfStore& store = store_of(position);
    const int64_t at = position - store.first;
    return store.keys + (head * store.capacity + at / kKeysPerGroup * kKeysPerGroup) * key_dim +
           at % kKeysPerGroup;
  }
  uint16_t* value(int64_t head, int64_t position) const {
    const HalfStore& store = store_of(position);
    return store.values + (head * store.capacity + position - store.first) * value_dim;
  }
  uint8_t* key_chunk(int64_t head, int64_t chunk) const {
    return key_chunks + (head * chunks + chunk) * coding->key.chunk_bytes();
  }
  uint8_t* value_chunk(int64_t head, int64_t chunk) const {
    return value_chunks + (head * chunks + chunk) * coding->value.chunk_bytes();
  }
};

/// Keys and values of one sequence: [layer][kv head] of LayerCache. It remembers which tokens it
/// holds, so that a conversation that goes on need not be read again. Memory is reserved at once
/// and used as positions fill.
class KvCache {
 public:
  /// Throws Error where so much memory cannot be had, or a format is not for the model's heads.
  KvCache(const ModelConfig& config, int64_t capacity, const KvOptions& options = {});
  KvCache(KvCache&&) = default;

  int64_t capacity() const { return capacity_; }
  int64_t length() const { return static_cast<int64_t>(tokens_.size()); }
  std::span<const Token> tokens() const { return tokens_; }
  int64_t most_pass() const;  ///< tokens that one pass may add

  int64_t bytes() const;                     ///< reserved
  double position_bytes() const;             ///< of one more token of a long context: as coded
  int64_t bytes_read(int64_t length) const;  ///< by a token behind `length` others

  /// Forgets everything from position `length` on. Where that cuts a coded chunk, what is left of
  /// the chunk becomes halves again, as exact as it was coded.
  void truncate(int64_t length);

  /// Where a pass over the next tokens reads and writes. REQUIRES: 0 <= layer < layers.
  LayerCache layer(int64_t layer);

  /// After a pass over all layers: the positions of `tokens` are filled. REQUIRES: they fit.
  void append(std::span<const Token> tokens);

  /// Positions [0, length) as if they had been computed, with made-up content: for measuring speed.
  void fill(int64_t length);

 private:
  void make_room();
  void restore_chunk(int64_t chunk, int64_t tokens);
  int64_t halves_of(int64_t positions) const;

  int64_t capacity_;
  int64_t layers_, kv_heads_, key_dim_, value_dim_;
  std::unique_ptr<const KvCoding> coding_;
  int64_t oldest_ = 0;
  int64_t recent_positions_, oldest_positions_ = 0;  ///< reserved, whole groups
  int64_t recent_first_ = 0, coded_end_ = 0, chunks_ = 0;
  std::vector<Token> tokens_;
  std::unique_ptr<uint16_t[]> recent_keys_, recent_values_, oldest_keys_, oldest_values_;
  std::unique_ptr<uint8_t[]> key_chunks_, value_chunks_;
  std::vector<float> means_;
};

}  // namespace fewbits
