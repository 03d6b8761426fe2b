#include "calibrate/blas.h"

#include <gtest/gtest.h>

#include <atomic>
#include <vector>

#include "base/thread_pool.h"

namespace fewbits {
namespace {

constexpr int kRows = 32, kColumns = 300, kDepth = 128;

std::vector<float> product(const std::vector<float>& a, const std::vector<float>& b) {
  std::vector<float> out(size_t{kRows} * kColumns);
  const BlasCall call;
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, kRows, kColumns, kDepth, 1.0f, a.data(),
              kDepth, b.data(), kColumns, 0.0f, out.data(), kColumns);
  return out;
}

TEST(BlasCall, ProductsFromSeveralThreadsAreThoseOfOne) {
  std::vector<float> a(size_t{kRows} * kDepth), b(size_t{kDepth} * kColumns);
  for (size_t i = 0; i < a.size(); ++i) a[i] = static_cast<float>(i % 17) - 8;
  for (size_t i = 0; i < b.size(); ++i) b[i] = static_cast<float>(i % 13) - 6;
  const std::vector<float> alone = product(a, b);
  std::atomic<int> wrong = 0;
  ThreadPool pool(4);
  pool.run(4, [&](int64_t, int) {
    for (int i = 0; i < 2000; ++i) wrong += product(a, b) != alone;
  });
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace fewbits
