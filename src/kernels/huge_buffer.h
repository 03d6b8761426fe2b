#pragma once

#include <cstddef>
#include <cstdint>

namespace fewbits {

/// Uninitialised memory for weights and scratch: aligned to a page, and on 2 MiB pages where it is
/// large (with 4 KiB pages a stream of weights loses up to a tenth of the bandwidth to address
/// translation). Movable.
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
