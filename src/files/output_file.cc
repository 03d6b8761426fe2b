#include "files/output_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <random>
#include <string>
#include <utility>

#include "base/checked_math.h"
#include "base/error.h"
#include "base/text.h"

namespace fewbits {
namespace {

namespace fs = std::filesystem;

// Pages are handed to the disk in windows of this size, and given back one window later: large
// enough to keep the disk busy, small against any memory budget.
constexpr int64_t kWindowBytes = int64_t{8} << 20;

// Names of files have at most 255 bytes. The temporary's begins with as much of the target's as
// surely leaves room.
constexpr size_t kLongestStem = 180;

constexpr std::string_view kMark = ".fewbits-";
constexpr std::string_view kPartial = "partial", kParts = "parts";

/// "-00001-of-00003.gguf"
bool is_part(std::string_view end) {
  constexpr std::string_view kPattern = "-00000-of-00000.gguf";
  return end.size() == kPattern.size() &&
         std::equal(end.begin(), end.end(), kPattern.begin(), [](char c, char pattern) {
           return pattern == '0' ? c >= '0' && c <= '9' : c == pattern;
         });
}

[[noreturn]] void fail(const fs::path& path, std::string_view what) {
  throw Error(fmt::format("{}: {}", path.string(), what));
}

std::string error_text(int error) {
  return std::strerror(error);
}

/// Where the bytes really go: an absolute path, behind symbolic links.
fs::path resolved(const fs::path& path) {
  std::error_code error;
  const fs::path absolute = fs::absolute(path, error);
  if (error) return path;
  const fs::path target = fs::weakly_canonical(absolute, error);
  return error ? absolute : target;
}

void refuse_unwritable_folder(const fs::path& path) {
  const fs::path folder = path.parent_path();
  struct stat status {};
  if (::stat(folder.c_str(), &status) != 0) {
    fail(path, fmt::format("the folder {} cannot be used: {}", folder.string(), error_text(errno)));
  }
  if (!S_ISDIR(status.st_mode)) fail(path, fmt::format("{} is no folder", folder.string()));
  if (::access(folder.c_str(), W_OK | X_OK) != 0) {
    fail(path, fmt::format("no file can be made in {}: {}", folder.string(), error_text(errno)));
  }
}

std::string_view kind_of(mode_t mode) {
  if (S_ISDIR(mode)) return "a folder";
  if (S_ISFIFO(mode)) return "a pipe";
  if (S_ISSOCK(mode)) return "a socket";
  return "a device";
}

void refuse_unfit_target(const fs::path& path) {
  if (path.filename().empty() || path.filename() == "." || path.filename() == "..") {
    fail(path, "the name of a file is expected");
  }
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) {
    if (errno != ENOENT) fail(path, error_text(errno));
    return;
  }
  if (!S_ISREG(status.st_mode)) {
    fail(path,
         fmt::format("is {}; only a regular file can be written, since it must appear whole or "
                     "not at all",
                     kind_of(status.st_mode)));
  }
  if (::access(path.c_str(), W_OK) != 0) {
    fail(path, fmt::format("exists and is write-protected: {}; remove it or choose another name",
                           error_text(errno)));
  }
}

int64_t file_size_limit() {
  struct rlimit limit {};
  if (::getrlimit(RLIMIT_FSIZE, &limit) != 0) return INT64_MAX;
  return static_cast<int64_t>(std::min<rlim_t>(limit.rlim_cur, INT64_MAX));
}

/// The older file under the final name keeps its space until the new one is complete, so it does
/// not count as free.
void refuse_lack_of_space(const fs::path& path, int64_t expected_bytes, int64_t limit) {
  if (expected_bytes > limit) {
    fail(path, fmt::format("{} would be written, but files are limited to {} (ulimit -f)",
                           human_bytes(expected_bytes), human_bytes(limit)));
  }
  struct statvfs status {};
  if (::statvfs(path.parent_path().c_str(), &status) != 0) return;  // unknown is not too little
  const int64_t free_bytes =
      checked_multiply(static_cast<int64_t>(status.f_bavail), static_cast<int64_t>(status.f_frsize))
          .value_or(INT64_MAX);
  if (expected_bytes > free_bytes) {
    fail(path,
         fmt::format("{} would be written, but the disk has {} free; free {} or write elsewhere",
                     human_bytes(expected_bytes), human_bytes(free_bytes),
                     human_bytes(expected_bytes - free_bytes)));
  }
}

std::string temporary_prefix(const fs::path& path) {
  return fmt::format(".{}{}", path.filename().string().substr(0, kLongestStem), kMark);
}

/// Removes a temporary whose writer is gone: then nobody holds its lock. No lock, no removal.
void remove_if_abandoned(const fs::path& temporary) {
  const int file = ::open(temporary.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (file < 0) return;
  if (::flock(file, LOCK_EX | LOCK_NB) == 0) ::unlink(temporary.c_str());
  ::close(file);
}

void remove_abandoned(const fs::path& path) {
  const std::string prefix = temporary_prefix(path);
  std::error_code error;
  for (fs::directory_iterator it(path.parent_path(), error), end; !error && it != end;
       it.increment(error)) {
    const std::string name = it->path().filename().string();
    std::error_code ignored;
    if (name.starts_with(prefix) && name.ends_with(".tmp") && it->is_regular_file(ignored)) {
      remove_if_abandoned(it->path());
    }
  }
}

/// Locks a fresh temporary. False where another run took it for abandoned between its making and
/// its locking.
bool lock_fresh(int file) {
  ::flock(
      file,
      LOCK_EX |
          LOCK_NB);  // some network folders have no locks: then nothing is ever taken for abandoned
  struct stat status {};
  return ::fstat(file, &status) == 0 && status.st_nlink > 0;
}

/// Makes and opens the temporary; sets its name.
int make_temporary(const fs::path& path, fs::path& temporary) {
  std::random_device random;
  for (int attempt = 0; attempt < 100; ++attempt) {
    temporary = path.parent_path() / fmt::format("{}{}-{:08x}.tmp", temporary_prefix(path),
                                                 ::getpid(), static_cast<uint32_t>(random()));
    const int file = ::open(temporary.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (file >= 0 && lock_fresh(file)) return file;
    if (file < 0 && errno != EEXIST) {
      fail(path, fmt::format("no file can be made in {}: {}", path.parent_path().string(),
                             error_text(errno)));
    }
    if (file >= 0) ::close(file);
  }
  fail(path, "no unused temporary name was found beside it");
}

/// What a killed run has written so far, or an empty file.
int open_partial(const fs::path& partial, int64_t& size) {
  const int file = ::open(partial.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0666);
  if (file < 0) fail(partial, error_text(errno));
  struct stat status {};
  if (::fstat(file, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(file);
    fail(partial, "is no regular file");
  }
  size = status.st_size;
  ::lseek(file, size, SEEK_SET);
  return file;
}

/// So that the new name survives a power cut. Folders that cannot be opened or synced are common
/// and harmless.
void sync_folder(const fs::path& path) {
  const int folder = ::open(path.parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0) return;
  const bool failed = ::fsync(folder) != 0 && errno == EIO;
  ::close(folder);
  if (failed) fail(path, "written, but its folder could not be synced to the disk (I/O error)");
}

}  // namespace

OutputFile::OutputFile(const fs::path& path, int64_t expected_bytes, Lifetime lifetime)
    : path_(resolved(path)) {
  check(expected_bytes >= 0);
  refuse_unfit_target(path_);
  refuse_unwritable_folder(path_);
  remove_abandoned(path_);
  limit_ = file_size_limit();
  if (lifetime == Lifetime::kResumed) {
    temporary_ = beside_output(path_, kPartial);
    file_ = open_partial(temporary_, size_);
    flushed_ = dropped_ = size_;
  }
  try {
    refuse_lack_of_space(path_, std::max<int64_t>(0, expected_bytes - size_), limit_);
    if (file_ < 0) file_ = make_temporary(path_, temporary_);
  } catch (...) {
    if (file_ >= 0 && size_ == 0) ::unlink(temporary_.c_str());  // else it is an earlier run's
    if (file_ >= 0) ::close(file_);
    throw;
  }
}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::move(other.temporary_)),
      file_(std::exchange(other.file_, -1)),
      limit_(other.limit_),
      size_(other.size_),
      flushed_(other.flushed_),
      dropped_(other.dropped_),
      keep_(other.keep_) {}

OutputFile::~OutputFile() {
  if (file_ < 0) return;
  if (!keep_) ::unlink(temporary_.c_str());
  ::close(file_);
}

void OutputFile::append(std::span<const std::byte> bytes) {
  check(file_ >= 0);
  while (!bytes.empty()) {
    const auto part = bytes.first(std::min(bytes.size(), static_cast<size_t>(kWindowBytes)));
    write_some(part);
    bytes = bytes.subspan(part.size());
    flush_behind();
  }
}

void OutputFile::overwrite(int64_t offset, std::span<const std::byte> bytes) {
  check(file_ >= 0 && offset >= 0 && offset + std::ssize(bytes) <= size_);
  while (!bytes.empty()) {
    const ssize_t written = ::pwrite(file_, bytes.data(), bytes.size(), offset);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail_writing(errno);
    offset += written;
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
}

void OutputFile::truncate(int64_t size) {
  check(file_ >= 0 && size >= 0 && size <= size_);
  if (::ftruncate(file_, size) != 0 || ::lseek(file_, size, SEEK_SET) != size) fail_writing(errno);
  size_ = size;
  flushed_ = std::min(flushed_, size);
  dropped_ = std::min(dropped_, size);
}

void OutputFile::sync() {
  check(file_ >= 0);
  if (::fdatasync(file_) != 0) fail_writing(errno);
  drop_pages();
}

void OutputFile::read(int64_t offset, std::span<std::byte> out) const {
  check(file_ >= 0 && offset >= 0);
  while (!out.empty()) {
    const ssize_t count = ::pread(file_, out.data(), out.size(), offset);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      throw DiskError(fmt::format("{}: cannot be read back at byte {}: {}; is the disk sound?",
                                  path_.string(), offset,
                                  count < 0 ? error_text(errno) : "the file ends there"));
    }
    offset += count;
    out = out.subspan(static_cast<size_t>(count));
  }
}

void OutputFile::commit() {
  check(file_ >= 0);
  if (::fsync(file_) != 0) fail_writing(errno);
  drop_pages();
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) {
    fail(path_,
         fmt::format("the finished file could not be given its name: {}", error_text(errno)));
  }
  ::close(std::exchange(file_, -1));
  sync_folder(path_);
}

void OutputFile::verify_begin(std::string_view bytes) {
  sync();
  std::string found(bytes.size(), '\0');
  read(0, std::as_writable_bytes(std::span(found)));
  if (found == bytes) return;
  fail(path_,
       "its header reads back as something else than was written, so nothing is kept; is the disk "
       "sound?");
}

/// All of them, where they are clean.
void OutputFile::drop_pages() const {
  constexpr off_t kToTheEnd = 0;
  ::posix_fadvise(file_, 0, kToTheEnd, POSIX_FADV_DONTNEED);
}

void OutputFile::write_some(std::span<const std::byte> bytes) {
  // A write across the limit would raise SIGXFSZ, which kills.
  if (static_cast<int64_t>(bytes.size()) > limit_ - size_) fail_writing(EFBIG);
  while (!bytes.empty()) {
    const ssize_t written = ::write(file_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail_writing(errno);
    size_ += written;
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
}

/// Starts writing out the newest window, and waits for the one before it, whose pages are then
/// clean and can be dropped.
void OutputFile::flush_behind() {
  if (size_ - flushed_ < kWindowBytes) return;
  flush(flushed_, size_, SYNC_FILE_RANGE_WRITE);
  if (flushed_ > dropped_) {
    flush(dropped_, flushed_,
          SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
    ::posix_fadvise(file_, dropped_, flushed_ - dropped_, POSIX_FADV_DONTNEED);
  }
  dropped_ = std::exchange(flushed_, size_);
}

/// An error of the disk that is reported here is not reported again by fsync. Other errors mean
/// that the file system knows no such call, and then only memory is less flat.
void OutputFile::flush(int64_t begin, int64_t end, unsigned flags) {
  if (::sync_file_range(file_, begin, end - begin, flags) == 0) return;
  if (errno == EIO || errno == ENOSPC || errno == EDQUOT) fail_writing(errno);
}

void OutputFile::fail_writing(int error) const {
  std::string advice = "the disk or its connection may be failing";
  if (error == ENOSPC || error == EDQUOT) advice = "free space or write elsewhere";
  if (error == EFBIG) advice = "raise the limit (ulimit -f) or write to another file system";
  throw DiskError(
      fmt::format("{}: {} after {} bytes; {}", path_.string(), error_text(error), size_, advice));
}

void rename_folder(const fs::path& from, const fs::path& to) {
  sync_folder(from / "inside");
  if (::rename(from.c_str(), to.c_str()) != 0) fail(to, error_text(errno));
  sync_folder(to);
}

fs::path beside_output(const fs::path& path, std::string_view kind) {
  const fs::path target = resolved(path);
  return target.parent_path() /
         fmt::format(".{}{}{}", target.filename().string().substr(0, kLongestStem), kMark, kind);
}

std::vector<fs::path> left_beside(const fs::path& path) {
  const fs::path target = resolved(path);
  const std::string name = target.filename().string(), stem = target.stem().string();
  std::vector<fs::path> found;
  std::error_code error;
  for (fs::directory_iterator it(target.parent_path(), error), end; !error && it != end;
       it.increment(error)) {
    const std::string entry = it->path().filename().string();
    std::string_view beside = entry;
    if (!beside.starts_with('.')) continue;
    beside.remove_prefix(1);
    const size_t mark = beside.rfind(kMark);
    if (mark == std::string_view::npos) continue;
    const std::string_view of = beside.substr(0, mark), kind = beside.substr(mark + kMark.size());
    const bool ours = of == name || of == name + std::string(kRoundedSuffix) ||
                      (of.starts_with(stem) && is_part(of.substr(stem.size())));
    if (ours && (kind == kPartial || kind == kParts || kind == kTuningKind))
      found.push_back(it->path());
  }
  return found;
}

void remove_left_beside(const fs::path& path) {
  std::error_code ignored;
  for (const fs::path& left : left_beside(path)) fs::remove_all(left, ignored);
}

bool same_file(const fs::path& a, const fs::path& b) {
  std::error_code error;
  return fs::equivalent(a, b, error) && !error;
}

}  // namespace fewbits
