#pragma once

#include <cstdint>
#include <string>

#include "base/json.h"
#include "files/metadata.h"

namespace fewbits {

struct RopeScaling {
  enum class Kind { kNone, kLinear, kLlama3 };
  Kind kind = Kind::kNone;
  double factor = 1;
  double low_frequency_factor = 1;    ///< kLlama3
  double high_frequency_factor = 4;   ///< kLlama3
  int64_t original_context = 0;       ///< kLlama3
};

/// The numbers that shape a decoder, whatever file they came from.
struct ModelConfig {
  int64_t hidden = 0;
  int64_t layers = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  int64_t ffn = 0;
  int64_t vocabulary = 0;
  int64_t context = 0;
  double norm_epsilon = 1e-5;
  double rope_theta = 10000;
  RopeScaling rope_scaling;
  bool tied_embeddings = false;
};

}  // namespace fewbits
