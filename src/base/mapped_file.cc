#include "base/mapped_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/error.h"

namespace fewbits {
namespace {

[[noreturn]] void fail(const std::filesystem::path& path, const char* what) {
  throw Error(fmt::format("{}: {}", path.string(), what));
}

int open_regular_file(const std::filesystem::path& path, int64_t& size) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) fail(path, std::strerror(errno));
  struct stat status {};
  if (::fstat(file, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(file);
    fail(path, "not a regular file");
  }
  size = status.st_size;
  return file;
}

/// The whole pages inside `part` as madvise wants them: [first page start, last page end).
std::pair<std::byte*, size_t> whole_pages(std::span<const std::byte> part) {
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = (reinterpret_cast<uintptr_t>(part.data()) + page - 1) / page * page;
  const auto end = reinterpret_cast<uintptr_t>(part.data() + part.size()) / page * page;
  return {reinterpret_cast<std::byte*>(begin), end > begin ? end - begin : 0};
}

}  // namespace

MappedFile MappedFile::open(const std::filesystem::path& path) {
  MappedFile result;
  const int file = open_regular_file(path, result.size_);
  if (result.size_ > 0) {
    void* data =
        ::mmap(nullptr, static_cast<size_t>(result.size_), PROT_READ, MAP_PRIVATE, file, 0);
    if (data == MAP_FAILED) {
      const int error = errno;
      ::close(file);
      result.size_ = 0;
      fail(path, std::strerror(error));
    }
    result.data_ = static_cast<const std::byte*>(data);
  }
  ::close(file);
  return result;
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), static_cast<size_t>(size_));
}

void MappedFile::drop(std::span<const std::byte> part) const {
  const auto [begin, size] = whole_pages(part);
  if (size > 0) ::madvise(begin, size, MADV_DONTNEED);
}

void MappedFile::will_read(std::span<const std::byte> part) const {
  const auto [begin, size] = whole_pages(part);
  if (size > 0) ::madvise(begin, size, MADV_WILLNEED);
}

}  // namespace fewbits
