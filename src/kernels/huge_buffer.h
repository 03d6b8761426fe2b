#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace fewbits {

/// Memory of its own: aligned to a page, and whole pages of 2 MiB where it is large (with pages of
/// 4 KiB a stream of weights loses a tenth of the bandwidth and more to address translation). Zeros
/// at first, which take memory only where they are touched. Movable.
class HugeBuffer {
 public:
  HugeBuffer() = default;
  /// Throws Error where the system has no memory left.
  explicit HugeBuffer(int64_t bytes);

  std::byte* data() { return memory_.get(); }
  const std::byte* data() const { return memory_.get(); }
  int64_t size() const { return memory_ == nullptr ? 0 : memory_.get_deleter().bytes; }

  /// At least `bytes` large afterwards; what it held is lost when it has to grow.
  void reserve(int64_t bytes);

 private:
  struct Unmap {
    int64_t bytes;
    void operator()(std::byte* memory) const;
  };
  std::unique_ptr<std::byte[], Unmap> memory_;
};

}  // namespace fewbits
