#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace fewbits::cli {

/// How large a file may be, as `--size 95M` or `--to 4.75bpw` says it; every byte of it counts.
class WantedSize {
 public:
  WantedSize() = default;

  /// `to` becomes the mix that decides about tensors outside the layers, where it is no such name.
  /// Throws Error where either is no size.
  WantedSize(const std::string& size, std::string& to);

  bool given() const { return bytes_ || bits_; }
  int64_t bytes(int64_t parameters) const;

 private:
  std::optional<int64_t> bytes_;
  std::optional<double> bits_;  ///< for each parameter
};

}  // namespace fewbits::cli
