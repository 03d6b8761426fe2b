#include "engine/token_ranking.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <limits>

#include "base/error.h"

namespace fewbits {
namespace {

constexpr size_t kBlock = 16;

/// Integers in the order of the floats, of which compilers make vectors where floats' NaN and
/// signed zeros forbid it. The same again gives the float back.
int32_t ordered(int32_t bits) {
  return bits ^ ((bits >> 31) & 0x7FFFFFFF);
}

}  // namespace

void TokenRanking::begin(std::span<const float> logits) {
  constexpr int32_t kExponent = 0x7F800000;  // all ones: infinite or no number
  logits_ = logits;
  entries_.clear();
  sorted_ = 0;
  maxima_.clear();
  int32_t broken = 0;
  for (size_t begin = 0; begin < logits.size(); begin += kBlock) {
    int32_t most = INT32_MIN;
    for (const float logit : logits.subspan(begin, std::min(kBlock, logits.size() - begin))) {
      const auto bits = std::bit_cast<int32_t>(logit);
      broken |= (bits & kExponent) == kExponent ? 1 : 0;
      most = std::max(most, ordered(bits));
    }
    maxima_.push_back(most);
  }
  if (broken != 0) {
    throw Error("the model's predictions are not finite: its weights are broken or overflow");
  }
}

const TokenRanking::Entry& TokenRanking::at(size_t rank) {
  constexpr size_t kFirst = 16, kGrowth = 8;
  while (sorted_ <= rank) {
    const size_t more = sorted_ == 0 ? (rank == 0 ? 1 : kFirst) : kGrowth * sorted_;
    find_first(std::min(size(), std::max(more, rank + 1)));
  }
  return entries_[rank];
}

/// As many blocks as there are tokens wanted have a maximum of `threshold` and more, so at least as
/// many tokens do.
void TokenRanking::find_first(size_t count) {
  constexpr auto kLikelier = [](const Entry& a, const Entry& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
  };
  if (count <= maxima_.size()) {
    scratch_ = maxima_;
    const auto last = scratch_.begin() + static_cast<ptrdiff_t>(count) - 1;
    std::nth_element(scratch_.begin(), last, scratch_.end(), std::greater());
    collect(std::bit_cast<float>(ordered(*last)));
  } else {
    collect(std::numeric_limits<float>::lowest());
  }
  const auto end = entries_.begin() + static_cast<ptrdiff_t>(count);
  std::nth_element(entries_.begin(), end - 1, entries_.end(), kLikelier);
  std::sort(entries_.begin(), end, kLikelier);
  sorted_ = count;
}

/// Entries: all tokens of at least that logit.
void TokenRanking::collect(float threshold) {
  entries_.clear();
  for (size_t block = 0; block < maxima_.size(); ++block) {
    if (std::bit_cast<float>(ordered(maxima_[block])) < threshold) continue;
    const size_t begin = block * kBlock, end = std::min(begin + kBlock, size());
    for (size_t i = begin; i < end; ++i) {
      if (logits_[i] >= threshold) entries_.push_back({logits_[i], static_cast<Token>(i)});
    }
  }
}

}  // namespace fewbits
