#include "engine/kv_cache.h"

#include <fmt/format.h>

#include <new>

#include "base/checked_math.h"
#include "base/error.h"
#include "base/text.h"

namespace fewbits {
namespace {

constexpr int64_t kMostHalves = int64_t{1} << 38;  // 512 GiB of keys: no machine has them

/// Not zeroed: the system hands out pages only when a position is first written.
std::unique_ptr<uint16_t[]> reserve(std::optional<int64_t> count, int64_t capacity) {
  if (count && *count <= kMostHalves) {
    try {
      return std::make_unique_for_overwrite<uint16_t[]>(static_cast<size_t>(*count));
    } catch (const std::bad_alloc&) {  // said below, in words
    }
  }
  const std::string size =
      count && *count <= kMostHalves ? human_bytes(4 * *count) : "over a terabyte";
  throw Error(
      fmt::format("no memory for a context of {} tokens ({} of keys and values); use a shorter one",
                  capacity, size));
}

}  // namespace

KvCache::KvCache(const ModelConfig& config, int64_t capacity)
    : capacity_(capacity),
      positions_(round_up(capacity, kKeysPerGroup)),
      layers_(config.layers),
      head_dim_(config.head_dim) {
  check(capacity >= 1);
  const auto stride = checked_multiply(config.kv_heads * config.head_dim, positions_);
  const auto count = stride ? checked_multiply(*stride, layers_) : std::nullopt;
  keys_ = reserve(count, capacity);
  values_ = reserve(count, capacity);
  layer_stride_ = *stride;
}

void KvCache::truncate(int64_t length) {
  check(length >= 0 && length <= this->length());
  tokens_.resize(static_cast<size_t>(length));
}

LayerCache KvCache::layer(int64_t layer) {
  check(layer >= 0 && layer < layers_);
  const int64_t offset = layer * layer_stride_;
  return {keys_.get() + offset, values_.get() + offset, positions_, head_dim_, length()};
}

void KvCache::append(std::span<const Token> tokens) {
  check(static_cast<int64_t>(tokens.size()) <= capacity_ - length());
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
}

}  // namespace fewbits
