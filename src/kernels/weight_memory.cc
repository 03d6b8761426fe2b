#include "kernels/weight_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <mutex>
#include <utility>

#include "base/checked_math.h"
#include "base/error.h"
#include "kernels/huge_buffer.h"

namespace fewbits {

/// Given out from its beginning to its end, never twice: addresses are plenty, and pages take
/// memory only between their first use and their piece's end.
struct WeightMemory::Stretch {
  HugeBuffer memory;
  int64_t used = 0;

  int64_t room() const { return memory.size() - used; }
};

namespace {

constexpr int64_t kPage = 4096;
constexpr int64_t kStretch = int64_t{64} << 20;

std::mutex stretch_mutex;
/// Where the next piece comes from, if anybody still has a piece of it.
std::weak_ptr<WeightMemory::Stretch> newest_stretch;

/// A stretch with room for `bytes`: the newest one, or one that becomes the newest.
std::shared_ptr<WeightMemory::Stretch> stretch_for(int64_t bytes) {
  std::shared_ptr<WeightMemory::Stretch> stretch = newest_stretch.lock();
  if (stretch != nullptr && stretch->room() >= bytes) return stretch;
  const auto fresh = std::make_shared<WeightMemory::Stretch>();
  fresh->memory = HugeBuffer(std::max(bytes, kStretch));
  if (stretch == nullptr || fresh->room() - bytes > stretch->room()) newest_stretch = fresh;
  return fresh;
}

}  // namespace

WeightMemory::WeightMemory(int64_t bytes) : size_(round_up(bytes, kPage)) {
  check(bytes >= 0);
  if (bytes == 0) return;
  const std::lock_guard lock(stretch_mutex);
  stretch_ = stretch_for(size_);
  data_ = stretch_->memory.data() + stretch_->used;
  stretch_->used += size_;
}

WeightMemory::WeightMemory(WeightMemory&& other) noexcept
    : stretch_(std::move(other.stretch_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

WeightMemory& WeightMemory::operator=(WeightMemory&& other) noexcept {
  std::swap(stretch_, other.stretch_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

WeightMemory::~WeightMemory() {
  if (data_ != nullptr) madvise(data_, static_cast<size_t>(size_), MADV_DONTNEED);
}

}  // namespace fewbits
