#pragma once

#include <cstdint>
#include <limits>
#include <span>

// What a sample says about the number behind it. All intervals are 95 %.
//
// The tokens of one window resemble each other, so a window (or a task's item) counts as one
// observation: its mean is one value, and the spread of these values gives the error (the
// "clustered" standard error). With few windows the spread itself is uncertain, which Student's
// factor pays for: 12.7 standard errors for two windows, 2.20 for twelve, 1.96 for very many.
namespace fewbits {

inline constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();

/// A measured value and its 95 % interval. The bounds are kUnknown where the sample gives none (a
/// single window).
struct Estimate {
  double value = kUnknown;
  double low = kUnknown;
  double high = kUnknown;
};

/// The mean of independent observations of equal weight, by Student's t. REQUIRES: not empty.
Estimate estimate_mean(std::span<const double> observations);

/// exp of a value and its bounds: from mean loss to perplexity, from log ratio to ratio.
Estimate exponential(const Estimate& estimate);

/// The share of `trials` that succeeded, by Wilson's score interval, which stays honest near 0
/// and 1.
Estimate estimate_share(int64_t successes, int64_t trials);

/// The same where trials come in clusters of equal size, whose shares are given: Wilson's interval
/// for as many trials as would scatter this much if they were independent (Korn and Graubard's
/// effective sample size).
Estimate estimate_clustered_share(std::span<const double> cluster_shares, int64_t trials);

/// Two programs on the same items: how many only the first got right, and how many only the second.
struct DiscordantItems {
  int64_t only_first = 0;
  int64_t only_second = 0;
  int64_t items = 0;
};

/// Share right of the first minus that of the second. Items that both got right or both wrong
/// cancel, so the interval is far narrower than the two shares' own. Bounds by Bonett and Price
/// (2012): Wald's with one more of each kind.
Estimate estimate_paired_difference(const DiscordantItems& counts);

/// The value below which `share` of the sorted values lie, interpolated linearly between
/// neighbours. REQUIRES: not empty, 0 <= share <= 1.
double quantile(std::span<const double> sorted, double share);

/// 97.5 % quantile of Student's t: the factor of a 95 % interval. REQUIRES: degrees >= 1. Off by at
/// most 0.1 %.
double student_factor(int64_t degrees);

}  // namespace fewbits
