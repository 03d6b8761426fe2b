#include "model/tokenizers/prefix_trie.h"

#include <algorithm>
#include <cstring>

namespace fewbits {
namespace {

/// The entries below one node: they share their first `depth` bytes.
struct Branch {
  size_t begin;
  size_t end;
  size_t depth;
};

}  // namespace

PrefixTrie::PrefixTrie(std::vector<Entry> entries) {
  std::erase_if(entries, [](const Entry& entry) { return entry.first.empty(); });
  std::ranges::stable_sort(entries, {}, &Entry::first);
  labels_ = {0};
  begins_.clear();
  tokens_.clear();
  // Breadth first: nodes get their numbers in the order in which their branches are queued.
  std::vector<Branch> branches = {{0, entries.size(), 0}};
  for (size_t node = 0; node < branches.size(); ++node) {
    auto [at, end, depth] = branches[node];
    begins_.push_back(static_cast<int32_t>(branches.size()));
    tokens_.push_back(-1);
    for (; at < end && entries[at].first.size() == depth; ++at) tokens_.back() = entries[at].second;
    while (at < end) {
      const char byte = entries[at].first[depth];
      size_t next = at;
      while (next < end && entries[next].first[depth] == byte) ++next;
      labels_.push_back(static_cast<uint8_t>(byte));
      branches.push_back({at, next, depth + 1});
      at = next;
    }
  }
  begins_.push_back(static_cast<int32_t>(branches.size()));
  learn_fast_children();
}

void PrefixTrie::learn_fast_children() {
  for (int32_t node = begins_[0]; node < begins_[1]; ++node) {
    root_[labels_[static_cast<size_t>(node)]] = node;
  }
}

int32_t PrefixTrie::child(int32_t node, char byte) const {
  if (node == kRoot) {
    const int32_t found = root_[static_cast<uint8_t>(byte)];
    return found == 0 ? kNone : found;
  }
  const auto begin = static_cast<size_t>(begins_[static_cast<size_t>(node)]);
  const auto end = static_cast<size_t>(begins_[static_cast<size_t>(node) + 1]);
  if (begin == end) return kNone;
  const uint8_t* labels = labels_.data();
  const void* found = std::memchr(labels + begin, static_cast<uint8_t>(byte), end - begin);
  if (found == nullptr) return kNone;
  return static_cast<int32_t>(static_cast<const uint8_t*>(found) - labels);
}

}  // namespace fewbits
