#include "calibrate/blas.h"

namespace fewbits {
namespace {

/// True where calls from several threads would disturb each other.
bool prepare() {
  openblas_set_num_threads(1);
  constexpr int kSerial = 0;  // of openblas_get_parallel
  return openblas_get_parallel() == kSerial;
}

}  // namespace

BlasCall::BlasCall() {
  static const bool takes_turns = prepare();
  static std::mutex turns;
  if (takes_turns) turn_ = std::unique_lock(turns);
}

}  // namespace fewbits
