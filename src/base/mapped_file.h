#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

namespace fewbits {

/// A file mapped read-only. Pages come in as they are read and count towards the resident set until
/// `drop` gives them back, so whoever streams through a file drops what lies behind it. Movable;
/// unmaps when destroyed.
class MappedFile {
 public:
  /// Throws Error where the file is missing, is no regular file or cannot be read. An empty file
  /// maps to no bytes.
  static MappedFile open(const std::filesystem::path& path);

  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return {data_, static_cast<size_t>(size_)}; }
  int64_t size() const { return size_; }

  /// Gives back the whole pages inside `part`, which must lie in bytes(). They stay readable (the
  /// kernel reads again).
  void drop(std::span<const std::byte> part) const;

  /// Tells the kernel that `part` is read soon, front to back.
  void will_read(std::span<const std::byte> part) const;

 private:
  const std::byte* data_ = nullptr;
  int64_t size_ = 0;
};

}  // namespace fewbits
