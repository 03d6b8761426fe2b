#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace fewbits {

/// A fixed crew of threads that share out numbered tasks, the calling thread among them.
///
/// Each thread begins with a run of numbers of its own, in rising order, and then helps the others
/// with theirs: neighbouring tasks read neighbouring memory, and a processor fetches one long
/// stretch faster than every other piece of it. Which thread runs a task is chance; results must
/// not depend on it. So split work by its size alone, never by `threads()`, and let each task write
/// its own place: then every thread count gives the same bits. One `run` at a time; not reentrant.
/// Idle workers spin for a moment (decode wakes them hundreds of times a token) and then sleep.
class ThreadPool {
 public:
  /// `threads` >= 1 counts the caller. 0 means one for each processor this process may use.
  explicit ThreadPool(int threads = 0);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  /// Calls task(i, thread) once for every i in [0, count), thread in [0, threads()), and returns
  /// when all are done. The first exception a task throws is thrown here after the others have
  /// finished or been skipped.
  void run(int64_t count, const std::function<void(int64_t task, int thread)>& task);

 private:
  /// The tasks [next, end) of one thread, on a cache line of its own.
  struct alignas(64) Share {
    std::atomic<int64_t> next{0};
    int64_t end = 0;
  };

  void share_out(int64_t count);
  void wait_for_workers();
  void work(int thread);
  void take_tasks(int thread);
  void take_tasks_of(Share& share, int thread);
  void skip_the_rest();

  std::vector<std::jthread> workers_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<uint64_t> generation_{0};
  std::atomic<int> working_{0};
  std::atomic<bool> stop_{false};
  std::vector<Share> shares_;  ///< [threads]
  const std::function<void(int64_t, int)>* task_ = nullptr;
  std::exception_ptr error_;
};

/// The processors this process may run on (affinity counts), at least 1.
int usable_processors();

}  // namespace fewbits
