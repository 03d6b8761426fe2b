#include "calibrate/observers.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <vector>

#include "base/error.h"
#include "base/text.h"

namespace fewbits {
namespace {

constexpr int kFirstCandidate = 128;  // bins: the levels of 8 bits
constexpr int kCandidateStep = 8;     // of searches that round everything anew
constexpr float kNewShare = 0.05f;    // of the latest sample in a moving average

/// The least power of two above `value`.
float power_above(float value) {
  int exponent = 0;
  std::frexp(value, &exponent);
  return std::ldexp(1.0f, std::min(exponent, std::numeric_limits<float>::max_exponent - 1));
}

float edge(const Histogram& histogram, int bins) {
  return std::min(histogram.width() * static_cast<float>(bins), histogram.largest());
}

double entropy_term(double count) {
  return count > 0 ? count * std::log(count) : 0;
}

/// Sums over the first i bins, of all i.
struct Sums {
  explicit Sums(std::span<const double> counts) {
    for (const double count : counts) {
      mass.push_back(mass.back() + count);
      filled.push_back(filled.back() + (count > 0 ? 1 : 0));
      terms.push_back(terms.back() + entropy_term(count));
    }
  }
  std::vector<double> mass = {0}, filled = {0}, terms = {0};
};

/// Divergence of the values, cut off behind `bins`, from what `levels` steps leave of those before.
/// Bins of which the steps know nothing are left out: the last, where it was empty before all that
/// lies beyond came to it.
double divergence(const Sums& sums, std::span<const double> counts, size_t bins, size_t levels) {
  const double total = sums.mass.back(), inside = sums.mass[bins];
  const double last = counts[bins - 1], beyond = total - inside;
  if (inside <= 0) return std::numeric_limits<double>::infinity();
  double expected = 0;  // sum of what lies in each step times the logarithm of its height
  for (size_t level = 0; level < levels; ++level) {
    const size_t begin = level * bins / levels, end = (level + 1) * bins / levels;
    const double mass = sums.mass[end] - sums.mass[begin];
    if (mass <= 0) continue;
    const double height = mass / (sums.filled[end] - sums.filled[begin]) / inside;
    const bool cut = level + 1 == levels && last > 0;
    expected += (mass + (cut ? beyond : 0)) * std::log(height);
  }
  const bool end_counts = last > 0;
  const double own = sums.terms[bins - 1] + (end_counts ? entropy_term(last + beyond) : 0);
  return (own - expected - (end_counts ? total : inside) * std::log(total)) / total;
}

}  // namespace

void Histogram::add(std::span<const float> values) {
  float largest = 0;
  for (const float value : values) {
    const float magnitude = std::abs(value);
    if (magnitude <= std::numeric_limits<float>::max()) largest = std::max(largest, magnitude);
  }
  widen(largest);
  const float bins_per_unit = width_ > 0 ? 1 / width_ : 0;
  for (const float value : values) {
    const float magnitude = std::abs(value);
    if (!(magnitude <= std::numeric_limits<float>::max())) continue;
    const auto bin = static_cast<int64_t>(magnitude * bins_per_unit);
    ++counts_[static_cast<size_t>(std::min<int64_t>(bin, kBins - 1))];
    ++total_;
  }
}

/// Twice as wide is two bins in one, as often as is needed.
void Histogram::widen(float largest) {
  largest_ = std::max(largest_, largest);
  // Below, the width of a bin and its inverse are no normal numbers any more.
  constexpr float kLeastRange = 0x1p-100f;
  const float wanted = std::max(power_above(largest), kLeastRange) / kBins;
  if (width_ == 0) width_ = wanted;
  for (; width_ < wanted; width_ *= 2) {
    for (size_t i = 0; i < kBins / 2; ++i) counts_[i] = counts_[2 * i] + counts_[2 * i + 1];
    std::fill(counts_.begin() + kBins / 2, counts_.end(), 0);
  }
}

int Histogram::used() const {
  const auto last = std::find_if(counts_.rbegin(), counts_.rend(), [](int64_t n) { return n > 0; });
  return static_cast<int>(counts_.rend() - last);
}

float percentile_range(const Histogram& histogram, double share) {
  const double wanted = share * static_cast<double>(histogram.total());
  int64_t seen = 0;
  for (int i = 0; i < Histogram::kBins; ++i) {
    seen += histogram.counts()[static_cast<size_t>(i)];
    if (seen > 0 && static_cast<double>(seen) >= wanted) return edge(histogram, i + 1);
  }
  return histogram.largest();
}

float least_squares_range(const Histogram& histogram, const ActivationFormat& format) {
  check(format.group == 0);
  std::vector<float> centres, rounded(Histogram::kBins);
  const int used = histogram.used();
  for (int i = 0; i < used; ++i)
    centres.push_back(histogram.width() * (static_cast<float>(i) + 0.5f));
  const auto error_of = [&](float range) {
    format.round(centres.data(), used, range / format.largest, rounded.data());
    double sum = 0;
    for (size_t i = 0; i < centres.size(); ++i) {
      const double error = double{centres[i]} - rounded[i];
      sum += error * error * static_cast<double>(histogram.counts()[i]);
    }
    return sum;
  };
  float best = histogram.largest();
  if (best == 0) return 0;
  double least = error_of(best);
  for (int bins = kFirstCandidate; bins < used; bins += kCandidateStep) {
    const float range = edge(histogram, bins);
    if (const double error = error_of(range); error < least) {
      least = error;
      best = range;
    }
  }
  return best;
}

float entropy_range(const Histogram& histogram, int levels) {
  std::vector<double> counts;
  const int used = histogram.used();
  for (int i = 0; i < used; ++i)
    counts.push_back(static_cast<double>(histogram.counts()[static_cast<size_t>(i)]));
  if (counts.size() > 1) counts[0] = counts[1];
  const Sums sums(counts);
  float best = histogram.largest();
  double least = std::numeric_limits<double>::infinity();
  for (int bins = std::max(levels, 2); bins <= used; ++bins) {
    const double found =
        divergence(sums, counts, static_cast<size_t>(bins), static_cast<size_t>(levels));
    if (found > least) continue;
    least = found;
    best = edge(histogram, bins);
  }
  return best;
}

ObserverRule observer_named(std::string_view name) {
  constexpr std::pair<std::string_view, ObserverKind> kKnown[] = {
      {"absmax", ObserverKind::kAbsMax},
      {"average", ObserverKind::kAverage},
      {"entropy", ObserverKind::kEntropy},
      {"mse", ObserverKind::kMse},
      {"percentile", ObserverKind::kPercentile}};
  const size_t colon = name.find(':');
  const std::string_view kind = name.substr(0, colon);
  std::vector<std::string> names;
  for (const auto& [known, value] : kKnown) {
    names.emplace_back(known);
    if (known != kind || (colon != name.npos && value != ObserverKind::kPercentile)) continue;
    ObserverRule rule{.kind = value};
    if (colon == name.npos) return rule;
    const std::string_view number = name.substr(colon + 1);
    double percent = 0;
    const auto [end, error] =
        std::from_chars(number.data(), number.data() + number.size(), percent);
    if (error != std::errc() || end != number.data() + number.size() || !(percent > 0) ||
        percent > 100) {
      throw Error(
          fmt::format("observer '{}': give a percentage up to 100, as in percentile:99.9", name));
    }
    rule.share = percent / 100;
    return rule;
  }
  throw Error(unknown_name(name, "observer", names));
}

void refuse_observer(const ObserverRule& rule, const ActivationFormat& format) {
  const bool searches = rule.kind == ObserverKind::kMse || rule.kind == ObserverKind::kEntropy;
  if (searches && format.group > 0) {
    throw Error(
        fmt::format("--observer: {} has scales of blocks; only absmax, average and "
                    "percentile are for its static scale",
                    format.name));
  }
  if (rule.kind == ObserverKind::kEntropy && !format.codes) {
    throw Error(fmt::format(
        "--observer entropy: is for equal steps, not for {}; take mse or percentile", format.name));
  }
}

void InputObserver::add(std::span<const float> values) {
  float largest = 0;
  for (const float value : values) {
    least_ = seen_ ? std::min(least_, value) : value;
    most_ = seen_ ? std::max(most_, value) : value;
    seen_ = true;
    largest = std::max(largest, std::abs(value));
  }
  average_ = average_ == 0 ? largest : average_ + kNewShare * (largest - average_);
  const bool counts = rule_.kind != ObserverKind::kAbsMax && rule_.kind != ObserverKind::kAverage;
  if (counts) histogram_.add(values);
}

float InputObserver::range(const ActivationFormat& format) const {
  switch (rule_.kind) {
    case ObserverKind::kAverage:
      return average_;
    case ObserverKind::kEntropy:
      return entropy_range(histogram_, static_cast<int>(format.largest) + 1);
    case ObserverKind::kMse:
      return least_squares_range(histogram_, format);
    case ObserverKind::kPercentile:
      return percentile_range(histogram_, rule_.share);
    default:
      return std::max(-least_, most_);
  }
}

}  // namespace fewbits
