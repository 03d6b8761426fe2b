#include "kernels/huge_buffer.h"

#include <sys/mman.h>

#include <string>

#include "base/checked_math.h"
#include "base/error.h"
#include "base/text.h"

namespace fewbits {
namespace {

constexpr int64_t kHugePage = int64_t{2} << 20;

std::byte* map(int64_t bytes) {
  void* memory = mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return memory == MAP_FAILED ? nullptr : static_cast<std::byte*>(memory);
}

void unmap(std::byte* memory, int64_t bytes) {
  if (bytes > 0) munmap(memory, static_cast<size_t>(bytes));
}

/// Whole huge pages: what is mapped too much, to find where the first one begins, is given back.
std::byte* map_huge(int64_t bytes) {
  std::byte* memory = map(bytes + kHugePage);
  if (memory == nullptr) return nullptr;
  const int64_t before = -reinterpret_cast<intptr_t>(memory) & (kHugePage - 1);
  unmap(memory, before);
  unmap(memory + before + bytes, kHugePage - before);
  madvise(memory + before, static_cast<size_t>(bytes), MADV_HUGEPAGE);  // a wish
  return memory + before;
}

}  // namespace

HugeBuffer::HugeBuffer(int64_t bytes) {
  check(bytes >= 0);
  if (bytes == 0) return;
  const bool huge = bytes >= kHugePage;
  const int64_t size = round_up(bytes, huge ? kHugePage : 4096);
  memory_ = {huge ? map_huge(size) : map(size), Unmap{size}};
  if (memory_ == nullptr)
    throw Error("memory: no room for " + human_bytes(bytes) + "; use a smaller model or format");
}

void HugeBuffer::Unmap::operator()(std::byte* memory) const {
  unmap(memory, bytes);
}

void HugeBuffer::reserve(int64_t bytes) {
  if (bytes > size()) *this = HugeBuffer(bytes);
}

}  // namespace fewbits
