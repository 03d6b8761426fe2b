#pragma once

#include <cstddef>
#include <cstdint>

namespace fewbits {

/// Memory of its own: aligned to a page, and whole pages of 2 MiB where it is large (with pages of
/// 4 KiB a stream of weights loses a tenth of the bandwidth and more to address translation). Zeros
/// at first, which take memory only where they are touched. Movable.
class HugeBuffer {
 public:
  HugeBuffer() = default;
  /// Throws Error where the system has no memory left.
  explicit HugeBuffer(int64_t bytes);
  HugeBuffer(HugeBuffer&& other) noexcept;
  HugeBuffer& operator=(HugeBuffer&& other) noexcept;
  ~HugeBuffer();

  std::byte* data() { return data_; }
  const std::byte* data() const { return data_; }
  int64_t size() const { return size_; }

  /// At least `bytes` large afterwards; what it held is lost when it has to grow.
  void reserve(int64_t bytes);

 private:
  std::byte* data_ = nullptr;
  int64_t size_ = 0;
};

}  // namespace fewbits
