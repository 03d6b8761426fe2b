#include "kernels/lloyd_max.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace fewbits {
namespace {

/// The mass of the density below points of [0, 1], and its first moment.
class Density {
 public:
  explicit Density(int64_t dim) : mass_(kPoints + 1), moment_(kPoints + 1) {
    const double exponent = 0.5 * (static_cast<double>(dim) - 3);
    for (int i = 0; i < kPoints; ++i) {
      const double t = (i + 0.5) / kPoints;
      const double density = std::pow(1 - t * t, exponent);
      const auto at = static_cast<size_t>(i);
      mass_[at + 1] = mass_[at] + density;
      moment_[at + 1] = moment_[at] + density * t;
    }
  }

  double mean_between(double begin, double end) const {
    const double mass = at(mass_, end) - at(mass_, begin);
    if (mass <= 0) return 0.5 * (begin + end);
    return (at(moment_, end) - at(moment_, begin)) / mass;
  }

 private:
  static constexpr int kPoints = 1 << 15;

  static double at(const std::vector<double>& sums, double t) {
    const double position = std::clamp(t, 0.0, 1.0) * kPoints;
    const int below = std::min(static_cast<int>(position), kPoints - 1);
    const auto index = static_cast<size_t>(below);
    return sums[index] + (position - below) * (sums[index + 1] - sums[index]);
  }

  std::vector<double> mass_, moment_;
};

}  // namespace

std::vector<double> lloyd_max_levels(int bits, int64_t dim) {
  check(bits >= 1 && bits <= 4 && dim >= 4);
  const Density density(dim);
  const double root = std::sqrt(static_cast<double>(dim));
  const size_t half = size_t{1} << (bits - 1);
  std::vector<double> levels;  // the positive ones
  for (size_t i = 0; i < half; ++i) {
    const double share = (static_cast<double>(i) + 0.5) / static_cast<double>(half);
    levels.push_back(std::min(2.5 / root, 0.99) * share);
  }
  double moved = 1;
  for (int round = 0; round < 10000 && moved > 1e-9; ++round) {
    moved = 0;
    double begin = 0;
    for (size_t i = 0; i < half; ++i) {
      const double end = i + 1 < half ? 0.5 * (levels[i] + levels[i + 1]) : 1;
      const double level = density.mean_between(begin, end);
      moved = std::max(moved, std::fabs(level - levels[i]));
      levels[i] = level;
      begin = end;
    }
  }
  std::vector<double> all;
  for (size_t i = half; i-- > 0;) all.push_back(-levels[i] * root);
  for (const double level : levels) all.push_back(level * root);
  return all;
}

}  // namespace fewbits
