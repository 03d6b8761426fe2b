#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <vector>

namespace fewbits {

/// A long row of floats that is read and written in pieces, in memory or in a file without a name,
/// which is gone when the process is. The values are the same either way.
class StateStore {
 public:
  StateStore() = default;
  /// In memory, or with a folder in a file there. Throws DiskError where no file can be made.
  StateStore(int64_t values, const std::optional<std::filesystem::path>& folder);
  StateStore(StateStore&& other) noexcept;
  StateStore& operator=(StateStore&& other) noexcept;
  ~StateStore();

  bool empty() const { return size_ == 0; }
  int64_t size() const { return size_; }

  /// Values [begin, begin + out.size()). REQUIRES: they lie inside. Throws DiskError where the file
  /// fails.
  void read(int64_t begin, std::span<float> out) const;
  void write(int64_t begin, std::span<const float> values);

 private:
  int64_t size_ = 0;
  std::vector<float> memory_;
  int file_ = -1;
  std::filesystem::path folder_;  ///< of the file, for errors
};

}  // namespace fewbits
