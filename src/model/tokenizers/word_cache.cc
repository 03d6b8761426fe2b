#include "model/tokenizers/word_cache.h"

#include <algorithm>
#include <bit>
#include <functional>

namespace fewbits {
namespace {

constexpr int64_t kMaxSlots = 1 << 16;

}  // namespace

WordCache::WordCache(int64_t words_expected)
    : slots_(
          std::bit_ceil(static_cast<size_t>(std::clamp<int64_t>(words_expected, 16, kMaxSlots)))),
      mask_(slots_.size() - 1) {}

std::optional<std::span<const Token>> WordCache::find(std::string_view word) {
  const uint64_t hash = std::hash<std::string_view>{}(word);
  size_t slot = hash & mask_;
  for (; slots_[slot].word != nullptr; slot = (slot + 1) & mask_) {
    const Slot& candidate = slots_[slot];
    if (candidate.hash == hash && std::string_view(candidate.word, candidate.word_size) == word) {
      return std::span(tokens_).subspan(candidate.first_token, candidate.token_count);
    }
  }
  missed_hash_ = hash;
  missed_slot_ = slot;
  return std::nullopt;
}

void WordCache::insert(std::string_view word, std::span<const Token> tokens) {
  if (filled_ * 2 >= slots_.size()) return;
  ++filled_;
  slots_[missed_slot_] = {word.data(), static_cast<uint32_t>(word.size()),
                          static_cast<uint32_t>(tokens.size()), missed_hash_, tokens_.size()};
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
}

}  // namespace fewbits
