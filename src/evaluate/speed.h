#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "engine/activation_rounding.h"
#include "engine/kv_cache.h"
#include "kernels/machine_limits.h"
#include "model/model.h"

// How fast a model runs here, beside what this machine could do: reading a prompt, decoding,
// decoding behind a long context, and encoding into other formats.
//
// What is counted are bytes really read (packed weights, one embedding row, keys and values) and
// operations of matrices really multiplied (the output layer for the last token only) and of
// attention. The limit of a prompt is the time that its int8 products take at the int8 peak plus
// that of the float ones and of attention at the FMA peak.
namespace fewbits {

struct SpeedOptions {
  int64_t prompt = 512;                  ///< tokens of the prefill test
  int64_t tokens = 32;                   ///< tokens of each decode test
  std::vector<int64_t> depths = {4096};  ///< of context, for further decode tests
  KvOptions kv = {};                     ///< cache of the tests
  ActivationOptions activations = {};
  int64_t sequences = 8;  ///< that are decoded at once in the batch test
  int repeats = 3;        ///< runs of each test; the best counts
};

struct SpeedRow {
  /// Or "quantize".
  std::string test;              ///< "prefill 512", "decode", "decode at 4096", "batch 8"
  std::string format;            ///< what most bytes of the model are in; of quantize: the target
  double tokens_per_second = 0;  ///< of quantize: 0
  double bytes_per_second = 0;   ///< read; of quantize: of F16 weights encoded
  double share_of_limit = 0;     ///< 0 to 1; quantize's limit is the read bandwidth
};

struct Speed {
  MachineLimits limits;  ///< the best seen before and after the tests
  std::vector<SpeedRow> rows;
};

/// Calls `progress` before each test with its name. Throws Interrupted. Depths that the model's
/// context does not hold are left out.
Speed measure_speed(const Model& model, ThreadPool& pool, const SpeedOptions& options,
                    const std::function<void(const std::string& test)>& progress);

}  // namespace fewbits
