#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace fewbits::cli {

/// "95M", "4.2G", "95000000": decimal units, as disks and downloads count. Throws Error that begins
/// with `option` where it is no size.
int64_t parse_bytes(std::string_view option, const std::string& text);

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
