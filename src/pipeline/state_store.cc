#include "pipeline/state_store.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>

#include "base/error.h"

namespace fewbits {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail(const fs::path& folder, int error) {
  throw DiskError(fmt::format(
      "{}: hidden states of the calibration samples cannot be kept in a file there: {}; free "
      "space, or allow more memory (--memory)",
      folder.string(), std::strerror(error)));
}

/// A file without a name: nothing is left behind however the process ends.
int make_file(const fs::path& folder) {
  const int file = ::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (file >= 0) return file;
  // Some file systems cannot do that.
  std::string name = (folder / ".fewbits-states-XXXXXX").string();
  const int named = ::mkostemp(name.data(), O_CLOEXEC);
  if (named < 0) fail(folder, errno);
  ::unlink(name.c_str());
  return named;
}

}  // namespace

StateStore::StateStore(int64_t values, const std::optional<fs::path>& folder) : size_(values) {
  check(values >= 0);
  if (!folder) {
    memory_.resize(static_cast<size_t>(values));
    return;
  }
  folder_ = *folder;
  file_ = make_file(folder_);
}

StateStore::StateStore(StateStore&& other) noexcept
    : size_(std::exchange(other.size_, 0)),
      memory_(std::move(other.memory_)),
      file_(std::exchange(other.file_, -1)),
      folder_(std::move(other.folder_)) {}

StateStore& StateStore::operator=(StateStore&& other) noexcept {
  std::swap(size_, other.size_);
  std::swap(memory_, other.memory_);
  std::swap(file_, other.file_);
  std::swap(folder_, other.folder_);
  return *this;
}

StateStore::~StateStore() {
  if (file_ >= 0) ::close(file_);
}

void StateStore::read(int64_t begin, std::span<float> out) const {
  check(begin >= 0 && begin + std::ssize(out) <= size_);
  if (file_ < 0) {
    std::copy_n(memory_.begin() + begin, out.size(), out.begin());
    return;
  }
  const auto bytes = std::as_writable_bytes(out);
  const int64_t offset = begin * static_cast<int64_t>(sizeof(float));
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t count = ::pread(file_, bytes.data() + done, bytes.size() - done,
                                  offset + static_cast<int64_t>(done));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) fail(folder_, count < 0 ? errno : EIO);
    done += static_cast<size_t>(count);
  }
}

void StateStore::write(int64_t begin, std::span<const float> values) {
  check(begin >= 0 && begin + std::ssize(values) <= size_);
  if (file_ < 0) {
    std::copy(values.begin(), values.end(), memory_.begin() + begin);
    return;
  }
  const auto bytes = std::as_bytes(values);
  const int64_t offset = begin * static_cast<int64_t>(sizeof(float));
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t count = ::pwrite(file_, bytes.data() + done, bytes.size() - done,
                                   offset + static_cast<int64_t>(done));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) fail(folder_, count < 0 ? errno : EIO);
    done += static_cast<size_t>(count);
  }
}

}  // namespace fewbits
