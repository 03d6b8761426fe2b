#include "kernels/huge_buffer.h"

#include <sys/mman.h>

#include <string>
#include <utility>

#include "base/checked_math.h"
#include "base/error.h"
#include "base/text.h"

namespace fewbits {
namespace {

constexpr int64_t kHugePage = int64_t{2} << 20;

}  // namespace

HugeBuffer::HugeBuffer(int64_t bytes) {
  check(bytes >= 0);
  if (bytes == 0) return;
  // A large mapping is a whole number of huge pages, so that its end can be one as well.
  const int64_t size = bytes >= kHugePage ? round_up(bytes, kHugePage) : round_up(bytes, 4096);
  void* memory = mmap(nullptr, static_cast<size_t>(size), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED)
    throw Error("memory: no room for " + human_bytes(bytes) + "; use a smaller model or format");
  if (size >= kHugePage)
    madvise(memory, static_cast<size_t>(size), MADV_HUGEPAGE);  // a wish; without it: 4 KiB pages
  data_ = static_cast<std::byte*>(memory);
  size_ = size;
}

HugeBuffer::HugeBuffer(HugeBuffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

HugeBuffer& HugeBuffer::operator=(HugeBuffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

HugeBuffer::~HugeBuffer() {
  if (data_ != nullptr) munmap(data_, static_cast<size_t>(size_));
}

void HugeBuffer::reserve(int64_t bytes) {
  if (bytes > size_) *this = HugeBuffer(bytes);
}

}  // namespace fewbits
