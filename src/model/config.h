#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

// The numbers that shape a decoder, whatever file they came from.
namespace fewbits {

/// How rotary frequencies are stretched so that a model reaches a longer context than it was first
/// trained on.
struct RopeScaling {
  enum class Kind {
    kNone,
    kLinear,  ///< every frequency divided by `factor`
    kLlama3,  ///< low frequencies divided by `factor`, high ones kept, a smooth passage between
  };
  Kind kind = Kind::kNone;
  double factor = 1;
  double low_frequency_factor = 1;   ///< kLlama3
  double high_frequency_factor = 4;  ///< kLlama3
  int64_t original_context = 0;      ///< kLlama3
};

struct ModelConfig {
  int64_t hidden = 0;
  int64_t layers = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  int64_t ffn = 0;
  int64_t vocabulary = 0;
  int64_t context = 0;         ///< most tokens this program lets the model see
  int64_t sliding_window = 0;  ///< tokens that attention looks back; 0: all of them
  double norm_epsilon = 1e-5;
  double rope_theta = 10000;
  RopeScaling rope_scaling;
  bool tied_embeddings = false;
};

/// Throws Error that begins with `where` unless every number is in its bounds and they agree with
/// each other. After it, no product of two sizes overflows.
void check_config(const ModelConfig& config, std::string_view where);

/// What each of the head_dim / 2 rotary frequencies is divided by under kLlama3, as GGUF keeps it
/// in rope_freqs.weight; empty for the other kinds. Formula: Hugging Face's modeling_rope_utils,
/// llama3.
std::vector<float> llama3_rope_factors(const ModelConfig& config);

}  // namespace fewbits
