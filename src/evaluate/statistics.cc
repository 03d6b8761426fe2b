#include "evaluate/statistics.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace fewbits {
namespace {

constexpr double kNormalFactor = 1.959963984540054;  // 97.5 % quantile of the normal distribution

double mean_of(std::span<const double> values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

/// Of the mean, squared. REQUIRES: two values or more.
double squared_standard_error(std::span<const double> values, double mean) {
  double sum = 0;
  for (const double value : values) sum += (value - mean) * (value - mean);
  const auto count = static_cast<double>(values.size());
  return sum / (count - 1) / count;
}

/// Wilson's interval. `trials` need not be whole: it may be an effective sample size.
Estimate wilson(double share, double trials, double factor) {
  const double z2 = factor * factor / trials;
  const double centre = (share + z2 / 2) / (1 + z2);
  const double half =
      std::sqrt(share * (1 - share) / trials + z2 / (4 * trials)) * factor / (1 + z2);
  return {share, std::max(0.0, centre - half), std::min(1.0, centre + half)};
}

}  // namespace

Estimate estimate_mean(std::span<const double> observations) {
  check(!observations.empty());
  const double mean = mean_of(observations);
  if (observations.size() == 1) return {.value = mean};
  const double half = student_factor(static_cast<int64_t>(observations.size()) - 1) *
                      std::sqrt(squared_standard_error(observations, mean));
  return {mean, mean - half, mean + half};
}

Estimate exponential(const Estimate& estimate) {
  return {std::exp(estimate.value), std::exp(estimate.low), std::exp(estimate.high)};
}

Estimate estimate_share(int64_t successes, int64_t trials) {
  check(0 <= successes && successes <= trials && trials > 0);
  const auto count = static_cast<double>(trials);
  return wilson(static_cast<double>(successes) / count, count, kNormalFactor);
}

Estimate estimate_clustered_share(std::span<const double> cluster_shares, int64_t trials) {
  check(!cluster_shares.empty() && trials > 0);
  const double share = mean_of(cluster_shares);
  if (cluster_shares.size() == 1) return {.value = share};
  // How much more the clusters scatter than independent trials would; less is taken for luck.
  const auto count = static_cast<double>(trials);
  const double independent = share * (1 - share) / count;
  const double measured = squared_standard_error(cluster_shares, share);
  const double design_effect = independent > 0 ? std::max(1.0, measured / independent) : 1.0;
  const double factor = student_factor(static_cast<int64_t>(cluster_shares.size()) - 1);
  return wilson(share, count / design_effect, factor);
}

Estimate estimate_paired_difference(const DiscordantItems& counts) {
  check(counts.items > 0 && counts.only_first + counts.only_second <= counts.items);
  const auto items = static_cast<double>(counts.items);
  const double first = (static_cast<double>(counts.only_first) + 1) / (items + 2);
  const double second = (static_cast<double>(counts.only_second) + 1) / (items + 2);
  const double centre = first - second;
  const double half = kNormalFactor * std::sqrt((first + second - centre * centre) / (items + 2));
  return {static_cast<double>(counts.only_first - counts.only_second) / items,
          std::max(-1.0, centre - half), std::min(1.0, centre + half)};
}

double quantile(std::span<const double> sorted, double share) {
  check(!sorted.empty() && share >= 0 && share <= 1);
  const double place = share * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(place);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  const double part = place - static_cast<double>(below);
  return sorted[below] + part * (sorted[above] - sorted[below]);
}

double student_factor(int64_t degrees) {
  check(degrees >= 1);
  if (degrees == 1) return 12.706204736432095;  // tan(0.475 pi)
  if (degrees == 2) return 4.302652729911275;   // closed form too
  // Fisher's expansion around the normal quantile (Abramowitz and Stegun 26.7.5).
  const double z = kNormalFactor;
  const double z2 = z * z;
  const double g1 = z * (z2 + 1) / 4;
  const double g2 = z * ((5 * z2 + 16) * z2 + 3) / 96;
  const double g3 = z * (((3 * z2 + 19) * z2 + 17) * z2 - 15) / 384;
  const double g4 = z * ((((79 * z2 + 776) * z2 + 1482) * z2 - 1920) * z2 - 945) / 92160;
  const auto n = static_cast<double>(degrees);
  return z + (g1 + (g2 + (g3 + g4 / n) / n) / n) / n;
}

}  // namespace fewbits
