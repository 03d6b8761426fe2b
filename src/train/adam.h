#pragma once

#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

namespace fewbits {

/// Adam (Kingma and Ba 2014, arXiv 1412.6980, algorithm 1) for one array of parameters.
class Adam {
 public:
  explicit Adam(size_t count) : mean_(count), square_(count) {}

  /// What it knows after some steps, for who goes on with it later.
  std::span<float> mean() { return mean_; }
  std::span<float> square() { return square_; }

  /// `step`: 1 the first time.
  void update(std::span<float> parameters, std::span<const float> gradient, double rate, int step) {
    constexpr float kMean = 0.9f, kSquare = 0.99f, kTiny = 1e-12f;
    const auto mean_share = static_cast<float>(1 / (1 - std::pow(double{kMean}, step)));
    const auto square_share = static_cast<float>(1 / (1 - std::pow(double{kSquare}, step)));
    for (size_t i = 0; i < parameters.size(); ++i) {
      mean_[i] = kMean * mean_[i] + (1 - kMean) * gradient[i];
      square_[i] = kSquare * square_[i] + (1 - kSquare) * gradient[i] * gradient[i];
      parameters[i] -= static_cast<float>(rate) * mean_[i] * mean_share /
                       (std::sqrt(square_[i] * square_share) + kTiny);
    }
  }

 private:
  std::vector<float> mean_, square_;
};

}  // namespace fewbits
