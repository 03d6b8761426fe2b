#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "formats/activation_format.h"

// From what a layer is fed in calibration to the range of a static scale. Everything is gathered
// as it streams past, in memory that does not grow.
namespace fewbits {

/// How often magnitudes occur. The bins begin at 0 and are equally wide, the width a power of two
/// that grows with the largest value: what comes out does not depend on the order of the values,
/// nor on how they are cut into pieces.
class Histogram {
 public:
  static constexpr int kBins = 2048;

  /// Values that are no finite numbers are left out.
  void add(std::span<const float> values);

  int64_t total() const { return total_; }
  float width() const { return width_; }
  float largest() const { return largest_; }
  const std::array<int64_t, kBins>& counts() const { return counts_; }
  /// Bins up to the last that is not empty.
  int used() const;

 private:
  void widen(float largest);

  std::array<int64_t, kBins> counts_{};
  int64_t total_ = 0;
  float width_ = 0, largest_ = 0;
};

/// The least magnitude, to a bin, that `share` of all values do not exceed.
float percentile_range(const Histogram& histogram, double share);

/// Where cutting off and rounding to the format's levels make the least squared error together.
/// REQUIRES: one scale for a token (ActivationFormat::group is 0).
float least_squares_range(const Histogram& histogram, const ActivationFormat& format);

/// Where the distribution that `levels` equal steps leave tells the least about the values (the
/// Kullback-Leibler divergence is least), as TensorRT calibrates 8 bits: 128 levels. The bin of
/// zeros is taken for as full as the next one. What lies beyond the range counts at its end, but
/// not where that end is empty otherwise: such ends are favoured, and so ranges come out where bins
/// begin to be empty, at some 4 sigma of a million normal values (with a small probability in place
/// of nothing, they would not be cut off at all).
float entropy_range(const Histogram& histogram, int levels);

enum class ObserverKind {
  kAbsMax,   ///< the largest magnitude
  kAverage,  ///< of the largest magnitude of each sample, those that come later counting more
  kEntropy,
  kMse,
  kPercentile,
};

struct ObserverRule {
  ObserverKind kind = ObserverKind::kAbsMax;
  double share = 0.9999;  ///< of kPercentile
};

/// "absmax", "average", "entropy", "mse", "percentile" or "percentile:99.9". Throws Error.
ObserverRule observer_named(std::string_view name);

/// Throws Error where a rule is not for such inputs.
void refuse_observer(const ObserverRule& rule, const ActivationFormat& format);

class InputObserver {
 public:
  explicit InputObserver(ObserverRule rule) : rule_(rule) {}

  /// The values of one sample.
  void add(std::span<const float> values);

  /// What the largest level of the format shall stand for.
  float range(const ActivationFormat& format) const;

  // Whatever the rule.
  float least() const { return least_; }
  float most() const { return most_; }

 private:
  ObserverRule rule_;
  float least_ = 0, most_ = 0, average_ = 0;
  bool seen_ = false;
  Histogram histogram_;
};

}  // namespace fewbits
