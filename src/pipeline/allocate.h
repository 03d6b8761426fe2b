#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace fewbits {

/// One way to store an item.
struct Choice {
  int64_t bytes;
  double cost;  ///< what it loses, >= 0; costs of items add up
};

/// For each item the index of a choice, so that all together take at most `budget` bytes and lose
/// as little as a Lagrangian relaxation finds: the least cost + price x bytes of each item, at the
/// lowest price that the budget allows (Everett 1963); what is then left is spent on the upgrades
/// that gain the most for their bytes. Throws Error where even the smallest choices are too many
/// bytes. REQUIRES: every item has a choice.
std::vector<size_t> allocate(std::span<const std::vector<Choice>> items, int64_t budget);

}  // namespace fewbits
