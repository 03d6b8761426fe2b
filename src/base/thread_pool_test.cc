#include "base/thread_pool.h"

#include <gtest/gtest.h>

#include <stdexcept>

namespace fewbits {
namespace {

TEST(ThreadPool, RunsEveryTaskOnce) {
  for (int threads : {1, 2, 7}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.threads(), threads);
    for (int64_t count : {0, 1, 2, 100}) {
      std::vector<std::atomic<int>> runs(static_cast<size_t>(count));
      for (int repeat = 0; repeat < 50; ++repeat) {
        pool.run(count, [&](int64_t i, int thread) {
          EXPECT_LT(thread, threads);
          ++runs[static_cast<size_t>(i)];
        });
      }
      for (const auto& n : runs) EXPECT_EQ(n, 50);
    }
  }
}

TEST(ThreadPool, PassesOnTheFirstException) {
  ThreadPool pool(3);
  EXPECT_THROW(pool.run(100,
                        [](int64_t i, int) {
                          if (i == 40) throw std::runtime_error("40");
                        }),
               std::runtime_error);
  int64_t done = 0;
  pool.run(1, [&](int64_t, int) { ++done; });
  EXPECT_EQ(done, 1);
}

}  // namespace
}  // namespace fewbits
