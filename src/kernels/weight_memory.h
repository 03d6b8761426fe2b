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

  std::byte* data() { return memory_.get(); }
  const std::byte* data() const { return memory_.get(); }
  int64_t size() const { return memory_ == nullptr ? 0 : memory_.get_deleter().bytes; }

  /// Defined in the source file.
  struct Stretch;

 private:
  struct GiveBack {
    int64_t bytes;  ///< whole pages
    std::shared_ptr<Stretch> stretch;
    void operator()(std::byte* memory) const;
  };
  std::unique_ptr<std::byte[], GiveBack> memory_;
};

}  // namespace fewbits
