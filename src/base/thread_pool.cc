#include "base/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace fewbits {
namespace {

// About 20 microseconds: longer than the gap between two matrix products of one token, shorter than
// anyone notices.
constexpr int kSpinsBeforeSleep = 4000;

inline void pause_briefly() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("isb");  // yield does nothing on most cores; this waits some tens of cycles
#endif
}

}  // namespace

int usable_processors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

ThreadPool::ThreadPool(int threads) {
  check(threads >= 0);
  if (threads == 0) threads = usable_processors();
  shares_ = std::vector<Share>(static_cast<size_t>(threads));
  for (int thread = 1; thread < threads; ++thread) {
    workers_.emplace_back([this, thread] { work(thread); });
  }
}

ThreadPool::~ThreadPool() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
    generation_.fetch_add(1);
  }
  wake_.notify_all();
}

void ThreadPool::run(int64_t count, const std::function<void(int64_t, int)>& task) {
  if (count <= 0) return;
  task_ = &task;
  share_out(count);
  if (count > 1 && !workers_.empty()) {
    working_.store(static_cast<int>(workers_.size()), std::memory_order_relaxed);
    {
      const std::lock_guard lock(mutex_);
      generation_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    take_tasks(0);
    wait_for_workers();
  } else {
    take_tasks(0);
  }
  task_ = nullptr;
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
}

void ThreadPool::wait_for_workers() {
  for (int spins = 0; spins < kSpinsBeforeSleep; ++spins) {
    if (working_.load(std::memory_order_acquire) == 0) return;
    pause_briefly();
  }
  while (const int working = working_.load(std::memory_order_acquire)) working_.wait(working);
}

void ThreadPool::work(int thread) {
  uint64_t seen = 0;
  while (true) {
    for (int spins = 0; generation_.load(std::memory_order_acquire) == seen; ++spins) {
      if (spins < kSpinsBeforeSleep) {
        pause_briefly();
        continue;
      }
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [&] { return generation_.load(std::memory_order_acquire) != seen; });
    }
    seen = generation_.load(std::memory_order_acquire);
    if (stop_) return;
    take_tasks(thread);
    if (working_.fetch_sub(1, std::memory_order_release) == 1) working_.notify_one();
  }
}

void ThreadPool::share_out(int64_t count) {
  const auto threads = std::ssize(shares_);
  int64_t begin = 0;
  for (int64_t i = 0; i < threads; ++i) {
    Share& share = shares_[static_cast<size_t>(i)];
    share.next.store(begin, std::memory_order_relaxed);
    begin += count / threads + (i < count % threads ? 1 : 0);
    share.end = begin;
  }
}

void ThreadPool::take_tasks(int thread) {
  const size_t threads = shares_.size();
  for (size_t i = 0; i < threads; ++i)
    take_tasks_of(shares_[(static_cast<size_t>(thread) + i) % threads], thread);
}

void ThreadPool::take_tasks_of(Share& share, int thread) {
  while (true) {
    const int64_t i = share.next.fetch_add(1, std::memory_order_relaxed);
    if (i >= share.end) return;
    try {
      (*task_)(i, thread);
    } catch (...) {
      const std::lock_guard lock(mutex_);
      if (!error_) error_ = std::current_exception();
      skip_the_rest();
    }
  }
}

void ThreadPool::skip_the_rest() {
  for (Share& share : shares_) share.next.store(share.end, std::memory_order_relaxed);
}

}  // namespace fewbits
