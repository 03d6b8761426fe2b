#include "pipeline/allocate.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "base/text.h"

namespace fewbits {
namespace {

constexpr int kHalvings = 100;  // of the interval of prices: more than a double has bits

using Items = std::span<const std::vector<Choice>>;

/// The choice of least cost + price x bytes; the smaller one where they are equal.
size_t best_at(const std::vector<Choice>& choices, double price) {
  const auto total = [&](const Choice& choice) {
    return choice.cost + price * static_cast<double>(choice.bytes);
  };
  size_t best = 0;
  for (size_t i = 1; i < choices.size(); ++i) {
    const double difference = total(choices[i]) - total(choices[best]);
    const bool smaller = choices[i].bytes < choices[best].bytes;
    if (difference < 0 || (difference == 0 && smaller)) best = i;
  }
  return best;
}

std::vector<size_t> all_at(Items items, double price) {
  std::vector<size_t> chosen;
  for (const auto& choices : items) chosen.push_back(best_at(choices, price));
  return chosen;
}

int64_t bytes_of(Items items, const std::vector<size_t>& chosen) {
  int64_t bytes = 0;
  for (size_t i = 0; i < items.size(); ++i) bytes += items[i][chosen[i]].bytes;
  return bytes;
}

std::vector<size_t> smallest(Items items) {
  std::vector<size_t> chosen;
  for (const auto& choices : items) {
    const auto least = std::ranges::min_element(choices, {}, &Choice::bytes);
    chosen.push_back(static_cast<size_t>(least - choices.begin()));
  }
  return chosen;
}

struct Upgrade {
  size_t item = 0, choice = 0;
  int64_t bytes = 0;
  double gain = 0;  ///< for each byte; 0: there is none
};

Upgrade best_upgrade(Items items, const std::vector<size_t>& chosen, int64_t room) {
  Upgrade best;
  for (size_t i = 0; i < items.size(); ++i) {
    const Choice& now = items[i][chosen[i]];
    for (size_t j = 0; j < items[i].size(); ++j) {
      const int64_t more = items[i][j].bytes - now.bytes;
      const double less = now.cost - items[i][j].cost;
      if (more > room || less <= 0) continue;
      const double gain = less / static_cast<double>(std::max<int64_t>(more, 1));
      if (gain > best.gain) best = {i, j, more, gain};
    }
  }
  return best;
}

}  // namespace

std::vector<size_t> allocate(Items items, int64_t budget) {
  std::vector<size_t> chosen = smallest(items);
  const int64_t least = bytes_of(items, chosen);
  if (least > budget) {
    throw Error(fmt::format("the smallest formats take {}, {} more than there is room for",
                            human_bytes(least), human_bytes(least - budget)));
  }
  double low = 0, high = 1;
  while (bytes_of(items, all_at(items, high)) > budget && high < 1e300) high *= 16;
  for (int i = 0; i < kHalvings; ++i) {
    const double middle = 0.5 * (low + high);
    (bytes_of(items, all_at(items, middle)) > budget ? low : high) = middle;
  }
  const auto at_price = all_at(items, high);
  if (bytes_of(items, at_price) <= budget) chosen = at_price;
  int64_t room = budget - bytes_of(items, chosen);
  for (Upgrade next = best_upgrade(items, chosen, room); next.gain > 0;
       next = best_upgrade(items, chosen, room)) {
    chosen[next.item] = next.choice;
    room -= next.bytes;
  }
  return chosen;
}

}  // namespace fewbits
