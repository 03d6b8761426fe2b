#include "kernels/weight_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <mutex>

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

WeightMemory::WeightMemory(int64_t bytes) {
  check(bytes >= 0);
  if (bytes == 0) return;
  const int64_t size = round_up(bytes, kPage);
  const std::lock_guard lock(stretch_mutex);
  const std::shared_ptr<Stretch> stretch = stretch_for(size);
  memory_ = {stretch->memory.data() + stretch->used, GiveBack{size, stretch}};
  stretch->used += size;
}

/// Pages that no neighbour is on take no memory any more.
void WeightMemory::GiveBack::operator()(std::byte* memory) const {
  madvise(memory, static_cast<size_t>(bytes), MADV_DONTNEED);
}

}  // namespace fewbits
