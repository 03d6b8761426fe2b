#include "engine/kv_cache.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <tuple>

#include "base/checked_math.h"
#include "base/error.h"
#include "base/half.h"
#include "base/text.h"
#include "kernels/kernel_table.h"

namespace fewbits {
namespace {

constexpr int64_t kMostBytes = int64_t{1} << 39;  // 512 GiB: no machine has them

// Rows of halves beyond what must be there, so that old ones are moved away once in so many tokens.
constexpr int64_t kSlack = 128;

constexpr uint32_t kKeySeed = 1, kValueSeed = 2;
constexpr uint16_t kSomeHalf = 0x2E66;  // 0.1: what a made-up context is filled with
constexpr uint8_t kSomeByte = 0x2E;

[[noreturn]] void refuse(int64_t capacity, std::optional<int64_t> bytes) {
  const std::string size =
      bytes && *bytes <= 2 * kMostBytes ? human_bytes(*bytes) : "over a terabyte";
  throw Error(
      fmt::format("no memory for a context of {} tokens ({} of keys and values); use a shorter one",
                  capacity, size));
}

/// Not zeroed: the system hands out pages only when a position is first written.
template <class Value>
std::unique_ptr<Value[]> reserve(int64_t count, int64_t capacity) {
  const auto size = int64_t{sizeof(Value)};
  if (count <= kMostBytes / size) {
    try {
      return std::make_unique_for_overwrite<Value[]>(static_cast<size_t>(count));
    } catch (const std::bad_alloc&) {  // said below, in words
    }
  }
  refuse(capacity, 2 * std::min(count, 4 * kMostBytes / size) * size);
}

int64_t checked_size(int64_t values, int64_t positions, int64_t capacity) {
  const auto size = checked_multiply(values, positions);
  if (!size || *size > kMostBytes) refuse(capacity, std::nullopt);
  return *size;
}

}  // namespace

KvOptions kv_options(std::string_view text) {
  const size_t colon = text.find(':');
  KvOptions options;
  options.key = text.substr(0, colon);
  options.value = colon == std::string_view::npos ? options.key : text.substr(colon + 1);
  const KvFormat& key = kv_format_named(options.key);
  const KvFormat& value = kv_format_named(options.value);
  if (!value.for_values) {
    throw Error(
        fmt::format("cache format {} is for keys alone: name another one for values, as in "
                    "{}:turbo3",
                    value.name, value.name));
  }
  if (std::min(key.bits, value.bits) < 8) {
    options.oldest = 4;
    options.recent = 128;
  }
  options.centred = key.bits <= 4;
  return options;
}

KvCoding::KvCoding(const KvOptions& wanted, int64_t key_dim, int64_t value_dim)
    : options(wanted),
      key(kv_format_named(wanted.key), KvRole::kKey, key_dim),
      value(kv_format_named(wanted.value), KvRole::kValue, value_dim) {
  if (key.format().rotated) key_rotation.emplace(key_dim, kKeySeed);
  if (value.format().rotated) value_rotation.emplace(value_dim, kValueSeed);
}

int64_t KvCoding::coded_end(int64_t length) const {
  const int64_t old = length - options.recent - options.oldest;
  return options.oldest + std::max<int64_t>(0, old) / kKvChunk * kKvChunk;
}

KvCache::KvCache(const ModelConfig& config, int64_t capacity, const KvOptions& options)
    : capacity_(capacity),
      layers_(config.layers),
      kv_heads_(config.kv_heads),
      key_dim_(config.head_dim),
      value_dim_(config.head_dim) {
  check(capacity >= 1);
  check(options.oldest >= 0 && options.recent >= 0 && options.most_pass >= 1);
  const int64_t heads = layers_ * kv_heads_;
  if (capacity > kMostBytes) refuse(capacity, std::nullopt);
  recent_positions_ = round_up(capacity, kKeysPerGroup);
  if (options.coded()) {
    coding_ = std::make_unique<const KvCoding>(options, key_dim_, value_dim_);
    oldest_ = coded_end_ = recent_first_ = options.oldest;
    oldest_positions_ = round_up(oldest_, kKeysPerGroup);
    const int64_t needed = options.recent + kKvChunk + options.most_pass + kSlack;
    recent_positions_ = std::min(recent_positions_, round_up(needed, kKeysPerGroup));
    chunks_ = std::max<int64_t>(0, capacity - oldest_) / kKvChunk;
    const int64_t count = checked_size(heads, chunks_, capacity);
    key_chunks_ =
        reserve<uint8_t>(checked_size(coding_->key.chunk_bytes(), count, capacity), capacity);
    value_chunks_ =
        reserve<uint8_t>(checked_size(coding_->value.chunk_bytes(), count, capacity), capacity);
    means_.resize(static_cast<size_t>(heads * key_dim_));
  }
  const auto halves = [&](int64_t dims, int64_t positions) {
    return reserve<uint16_t>(checked_size(heads * dims, positions, capacity), capacity);
  };
  recent_keys_ = halves(key_dim_, recent_positions_);
  recent_values_ = halves(value_dim_, recent_positions_);
  oldest_keys_ = halves(key_dim_, oldest_positions_);
  oldest_values_ = halves(value_dim_, oldest_positions_);
}

int64_t KvCache::most_pass() const {
  return coding_ ? coding_->options.most_pass : capacity_;
}

int64_t KvCache::halves_of(int64_t positions) const {
  return positions * (key_dim_ + value_dim_) * layers_ * kv_heads_;
}

int64_t KvCache::bytes() const {
  int64_t bytes = 2 * halves_of(recent_positions_ + oldest_positions_);
  if (!coding_) return bytes;
  const int64_t chunk = coding_->key.chunk_bytes() + coding_->value.chunk_bytes();
  return bytes + layers_ * kv_heads_ * chunks_ * chunk;
}

double KvCache::position_bytes() const {
  if (!coding_) return 2 * static_cast<double>(halves_of(1));
  const int64_t chunk = coding_->key.chunk_bytes() + coding_->value.chunk_bytes();
  return static_cast<double>(layers_ * kv_heads_ * chunk) / kKvChunk;
}

int64_t KvCache::bytes_read(int64_t length) const {
  const int64_t coded = coding_ ? coding_->coded_end(length) - oldest_ : 0;
  return 2 * halves_of(length - coded) +
         static_cast<int64_t>(position_bytes() * static_cast<double>(coded));
}

void KvCache::truncate(int64_t length) {
  check(length >= 0 && length <= this->length());
  tokens_.resize(static_cast<size_t>(length));
  if (!coding_) return;
  const int64_t chunk = std::max<int64_t>(0, length - oldest_) / kKvChunk;
  const int64_t whole = oldest_ + chunk * kKvChunk;
  coded_end_ = std::min(coded_end_, whole);
  if (length >= recent_first_) return;
  recent_first_ = coded_end_;
  if (length > whole) restore_chunk(chunk, length - whole);
}

/// The first `tokens` of a coded chunk as the first of the recent halves.
void KvCache::restore_chunk(int64_t chunk, int64_t tokens) {
  const KvChunkLayout key = coding_->key.layout(), value = coding_->value.layout();
  const int64_t depth = coding_->key.depth(), strips = value.width / kKeysPerGroup;
  std::vector<float> keys(static_cast<size_t>(kKvChunk * depth));
  std::vector<float> values(static_cast<size_t>(kKvChunk * value.width));
  for (int64_t index = 0; index < layers_ * kv_heads_; ++index) {
    const LayerCache part = layer(index / kv_heads_);
    const int64_t head = index % kv_heads_;
    const float* mean = part.means + head * key_dim_;
    kernels().decode_keys(key, part.key_chunk(head, chunk), keys.data(), kKeysPerGroup * depth);
    kernels().decode_values(value, part.value_chunk(head, chunk), strips * kKeysPerGroup,
                            {values.data(), kKvChunk * kKeysPerGroup});
    for (int64_t t = 0; t < tokens; ++t) {
      uint16_t* to_key = part.key(head, recent_first_ + t);
      uint16_t* to_value = part.value(head, recent_first_ + t);
      for (int64_t d = 0; d < key_dim_; ++d) {
        const int64_t at = (t / kKeysPerGroup * depth + d) * kKeysPerGroup + t % kKeysPerGroup;
        to_key[d * kKeysPerGroup] = half_from_float(keys[static_cast<size_t>(at)] + mean[d]);
      }
      for (int64_t d = 0; d < value_dim_; ++d) {
        const int64_t at = (d / kKeysPerGroup * kKvChunk + t) * kKeysPerGroup + d % kKeysPerGroup;
        to_value[d] = half_from_float(values[static_cast<size_t>(at)]);
      }
    }
  }
}

LayerCache KvCache::layer(int64_t layer) {
  check(layer >= 0 && layer < layers_);
  const int64_t head = layer * kv_heads_;
  LayerCache part;
  part.recent = {recent_keys_.get() + head * recent_positions_ * key_dim_,
                 recent_values_.get() + head * recent_positions_ * value_dim_, recent_positions_,
                 recent_first_};
  part.oldest_tokens = {oldest_keys_.get() + head * oldest_positions_ * key_dim_,
                        oldest_values_.get() + head * oldest_positions_ * value_dim_,
                        oldest_positions_, 0};
  part.oldest = oldest_;
  part.key_dim = key_dim_;
  part.value_dim = value_dim_;
  part.capacity = capacity_;
  part.length = length();
  if (!coding_) return part;
  part.coding = coding_.get();
  part.key_chunks = key_chunks_.get() + head * chunks_ * coding_->key.chunk_bytes();
  part.value_chunks = value_chunks_.get() + head * chunks_ * coding_->value.chunk_bytes();
  part.chunks = chunks_;
  part.coded_end = coded_end_;
  part.means = means_.data() + head * key_dim_;
  return part;
}

void KvCache::append(std::span<const Token> tokens) {
  check(static_cast<int64_t>(tokens.size()) <= capacity_ - length());
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
  if (!coding_) return;
  coded_end_ = std::max(coded_end_, coding_->coded_end(length()));
  make_room();
}

/// Gives up halves that are coded where the next pass might not find room. Chunks are whole groups
/// of keys, so that groups stay groups.
void KvCache::make_room() {
  const int64_t longest = std::min(capacity_, length() + most_pass());
  if (longest <= recent_first_ + recent_positions_) return;
  const int64_t gone = coded_end_ - recent_first_, kept = length() - coded_end_;
  const auto groups = static_cast<size_t>(round_up(std::max<int64_t>(kept, 0), kKeysPerGroup));
  for (int64_t head = 0; head < layers_ * kv_heads_; ++head) {
    uint16_t* keys = recent_keys_.get() + head * recent_positions_ * key_dim_;
    uint16_t* values = recent_values_.get() + head * recent_positions_ * value_dim_;
    std::memmove(keys, keys + gone * key_dim_, groups * static_cast<size_t>(key_dim_) * 2);
    std::memmove(values, values + gone * value_dim_, groups * static_cast<size_t>(value_dim_) * 2);
  }
  recent_first_ = coded_end_;
  check(longest <= recent_first_ + recent_positions_);
}

void KvCache::fill(int64_t length) {
  check(length <= capacity_);
  const int64_t heads = layers_ * kv_heads_;
  for (const auto& [halves, positions, dims] :
       {std::tuple{recent_keys_.get(), recent_positions_, key_dim_},
        std::tuple{recent_values_.get(), recent_positions_, value_dim_},
        std::tuple{oldest_keys_.get(), oldest_positions_, key_dim_},
        std::tuple{oldest_values_.get(), oldest_positions_, value_dim_}}) {
    std::fill_n(halves, positions * dims * heads, kSomeHalf);
  }
  tokens_.assign(static_cast<size_t>(length), Token{0});
  if (!coding_) return;
  std::fill_n(key_chunks_.get(), heads * chunks_ * coding_->key.chunk_bytes(), kSomeByte);
  std::fill_n(value_chunks_.get(), heads * chunks_ * coding_->value.chunk_bytes(), kSomeByte);
  coded_end_ = recent_first_ = coding_->coded_end(length);
}

}  // namespace fewbits
