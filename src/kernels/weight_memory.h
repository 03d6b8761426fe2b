#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace fewbits {

/// Uninitialised memory for the weights of a matrix, aligned to a page of 4 KiB. Matrices made one
/// after the other lie side by side in stretches of 2 MiB pages: a small matrix on pages of its own
/// would have only 4 KiB ones (and decode a tenth more slowly), a larger one fill its last page in
/// part. Movable; may be made and destroyed by any thread.
class WeightMemory {
 public:
  WeightMemory() = default;
  /// Throws Error where the system has no memory left.
  explicit WeightMemory(int64_t bytes);
  WeightMemory(WeightMemory&& other) noexcept;
  WeightMemory& operator=(WeightMemory&& other) noexcept;
  /// Gives the pages back that no neighbour is on.
  ~WeightMemory();

  std::byte* data() { return data_; }
  const std::byte* data() const { return data_; }
  int64_t size() const { return size_; }

  /// Defined in the source file.
  struct Stretch;

 private:
  std::shared_ptr<Stretch> stretch_;
  std::byte* data_ = nullptr;
  int64_t size_ = 0;  ///< whole pages
};

}  // namespace fewbits
