#include "model/tokenizers/merge_table.h"

#include <algorithm>
#include <bit>
#include <utility>

namespace fewbits {

MergeTable::MergeTable(int64_t expected)
    : slots_(std::bit_ceil(static_cast<size_t>(expected) * 2 + 16)), mask_(slots_.size() - 1) {}

void MergeTable::set(Token left, Token right, Merge merge) {
  if (static_cast<size_t>(size_ + 1) * 2 > slots_.size()) grow();
  const uint64_t key = key_of(left, right);
  size_t slot = slot_of(key);
  while (slots_[slot].key != kEmpty && slots_[slot].key != key) slot = (slot + 1) & mask_;
  if (slots_[slot].key == kEmpty) ++size_;
  slots_[slot] = {key, merge};
}

void MergeTable::grow() {
  const std::vector<Slot> old = std::exchange(slots_, std::vector<Slot>(slots_.size() * 2));
  mask_ = slots_.size() - 1;
  size_ = 0;
  for (const Slot& slot : old) {
    if (slot.key != kEmpty) set(left_of(slot.key), right_of(slot.key), slot.merge);
  }
}

std::vector<MergeTable::Entry> MergeTable::entries() const {
  std::vector<Entry> entries;
  for (const Slot& slot : slots_) {
    if (slot.key != kEmpty) entries.push_back({left_of(slot.key), right_of(slot.key), slot.merge});
  }
  std::ranges::sort(entries, {}, [](const Entry& entry) { return entry.merge.rank; });
  return entries;
}

}  // namespace fewbits
