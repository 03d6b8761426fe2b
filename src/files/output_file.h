#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

namespace fewbits {

/// A file that appears whole or not at all: bytes go to a temporary name in the target's folder,
/// `commit` syncs and renames it, and without a commit the destructor removes it (an older file
/// under the final name stays as it was). Written pages are handed to the disk and dropped as
/// writing goes on, so memory stays flat.
///
/// The temporary is named .NAME.fewbits-PID-RANDOM.tmp and kept locked (flock) while its writer
/// lives. What a killed writer of the same target left behind is therefore known by its free lock,
/// and the next one removes it.
///
/// With Lifetime::kResumed the temporary is .NAME.fewbits-partial: what a killed writer left there
/// is opened as it is, size() tells how much that is, and `keep` lets it stay when this object
/// goes. Who resumes must hold a lock on the output (journal.h).
class OutputFile {
 public:
  enum class Lifetime { kProcess, kResumed };

  /// Throws Error before any work where the folder is missing or not writable, the target is
  /// write-protected or no regular file, or where the disk or the limit on file sizes leaves less
  /// than `expected_bytes` (says how much is needed and how much there is). Where the target is a
  /// symbolic link, what it leads to is written.
  OutputFile(const std::filesystem::path& path, int64_t expected_bytes,
             Lifetime lifetime = Lifetime::kProcess);
  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&&) = delete;
  ~OutputFile();

  /// Throws DiskError (a full disk, a file size limit) with the path and the number of bytes
  /// written so far.
  void append(std::span<const std::byte> bytes);
  int64_t size() const { return size_; }
  const std::filesystem::path& path() const { return path_; }

  /// Replaces bytes that were appended. REQUIRES: offset + bytes.size() <= size().
  void overwrite(int64_t offset, std::span<const std::byte> bytes);

  /// Cuts to the first `size` bytes. REQUIRES: size <= size().
  void truncate(int64_t size);

  /// Everything appended is on the disk when this returns, and the system's copy of it in memory is
  /// given back.
  void sync();

  /// Bytes [offset, offset + out.size()) as they lie in the file; after sync() the disk is asked.
  /// Throws DiskError where they cannot be read.
  void read(int64_t offset, std::span<std::byte> out) const;

  /// Throws Error where the file does not begin with `bytes`, read back from the disk.
  void verify_begin(std::string_view bytes);

  /// Without a commit, the temporary stays for the next run.
  void keep() { keep_ = true; }

  /// Where the bytes are until `commit`: everything appended can be read from there.
  const std::filesystem::path& temporary() const { return temporary_; }

  /// Flushes, syncs file and folder, renames. Nothing may be appended after.
  void commit();

 private:
  void write_some(std::span<const std::byte> bytes);
  void flush_behind();
  void drop_pages() const;
  void flush(int64_t begin, int64_t end, unsigned flags);
  [[noreturn]] void fail_writing(int error) const;

  std::filesystem::path path_;
  std::filesystem::path temporary_;
  int file_ = -1;
  int64_t limit_ = 0;  // the process's limit on file sizes (ulimit -f)
  int64_t size_ = 0;
  int64_t flushed_ = 0;  // up to here the kernel has been asked to write
  int64_t dropped_ = 0;  // up to here pages have been given back
  bool keep_ = false;
};

/// Gives a folder its name, durably. Throws Error where that cannot be.
void rename_folder(const std::filesystem::path& from, const std::filesystem::path& to);

/// ".NAME.fewbits-KIND" beside a file that is written, links followed; long names are cut.
std::filesystem::path beside_output(const std::filesystem::path& path, std::string_view kind);

/// What lies beside an output while it is tuned: a kind for beside_output.
inline constexpr std::string_view kTuningKind = "tuning";

/// Behind an output's name: of a file that lies beside it, under its temporary name only, until the
/// output is whole.
inline constexpr std::string_view kRoundedSuffix = ".rounded";

/// What runs into this output that were killed have left beside it: files and folders that go on or
/// are in the way, of the output as a whole and of the files it is split into.
std::vector<std::filesystem::path> left_beside(const std::filesystem::path& path);
void remove_left_beside(const std::filesystem::path& path);

/// Whether two names lead to the same existing file.
bool same_file(const std::filesystem::path& a, const std::filesystem::path& b);

}  // namespace fewbits
