#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

namespace fewbits {

/// A file that appears whole or not at all: bytes go to a temporary name in the target's folder, `commit` syncs and
/// renames it, and without a commit the destructor removes it (an older file under the final name stays as it was).
/// Written pages are handed to the disk and dropped as writing goes on, so memory stays flat.
class OutputFile {
 public:
  /// Throws Error before any work where the folder is missing or not writable, the target is no regular file, or the
  /// disk has less than `expected_bytes` free (says how much is needed and how much there is).
  OutputFile(const std::filesystem::path& path, int64_t expected_bytes);
  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&&) = delete;
  ~OutputFile();

  /// Throws Error (a full disk, a file size limit) with the path and the number of bytes written so far.
  void append(std::span<const std::byte> bytes);
  int64_t size() const { return size_; }
  const std::filesystem::path& path() const { return path_; }

  /// Flushes, syncs file and folder, renames. Nothing may be appended after.
  void commit();

 private:
  void flush_behind();

  std::filesystem::path path_;
  std::filesystem::path temporary_;
  int file_ = -1;
  int64_t size_ = 0;
  int64_t flushed_ = 0;
};

/// Whether two names lead to the same existing file.
bool same_file(const std::filesystem::path& a, const std::filesystem::path& b);

}  // namespace fewbits
