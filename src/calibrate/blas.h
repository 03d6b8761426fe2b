#pragma once

#include <cblas.h>

#include <mutex>

namespace fewbits {

/// Held around each call of BLAS or LAPACK that may want a work buffer, from whatever thread:
///
///     const BlasCall call;
///     cblas_sgemm(...);
///
/// OpenBLAS built for one thread hands the same buffer to callers from several threads, and their
/// products are then wrong without a word (Debian's libopenblas0-serial 0.3.21: 2 to 6 % of small
/// products from four threads). Builds with threads of their own lock; they are told to use none,
/// since the work is shared out by our pool. Which build runs is the machine's choice, so it is
/// asked for at run time, and where it is the serial one, calls take turns.
class BlasCall {
 public:
  BlasCall();

 private:
  std::unique_lock<std::mutex> turn_;
};

}  // namespace fewbits
