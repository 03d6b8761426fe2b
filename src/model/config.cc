#include "model/config.h"

#include <fmt/format.h>

#include <cmath>
#include <numbers>

#include "base/error.h"

namespace fewbits {
namespace {

// Ten times what any published model has. They keep every product of two sizes far from overflow,
// and a forged header from asking for absurd buffers.
constexpr int64_t kMostHidden = int64_t{1} << 20;
constexpr int64_t kMostLayers = int64_t{1} << 12;
constexpr int64_t kMostHeads = int64_t{1} << 14;
constexpr int64_t kMostHeadDim = int64_t{1} << 10;
constexpr int64_t kMostFfn = int64_t{1} << 22;
constexpr int64_t kMostVocabulary = int64_t{1} << 24;
constexpr int64_t kMostContext = int64_t{1} << 30;

void check_size(std::string_view name, int64_t value, int64_t most, std::string_view where) {
  if (value >= 1 && value <= most) return;
  throw Error(fmt::format("{}: {} is {}, must be 1 to {}", where, name, value, most));
}

void check_number(std::string_view name, double value, double most, std::string_view where) {
  if (std::isfinite(value) && value > 0 && value <= most) return;
  throw Error(
      fmt::format("{}: {} is {}, must be above 0 and at most {}", where, name, value, most));
}

void check_rope_scaling(const RopeScaling& scaling, std::string_view where) {
  if (scaling.kind == RopeScaling::Kind::kNone) return;
  check_number("RoPE scaling factor", scaling.factor, 1e6, where);
  if (scaling.kind != RopeScaling::Kind::kLlama3) return;
  check_number("RoPE low_freq_factor", scaling.low_frequency_factor, 1e6, where);
  check_number("RoPE high_freq_factor", scaling.high_frequency_factor, 1e6, where);
  check_size("RoPE original_max_position_embeddings", scaling.original_context, kMostContext,
             where);
  if (scaling.high_frequency_factor > scaling.low_frequency_factor) return;
  throw Error(fmt::format("{}: RoPE high_freq_factor {} must be above low_freq_factor {}", where,
                          scaling.high_frequency_factor, scaling.low_frequency_factor));
}

/// Wavelengths beyond original_context / low are divided by the whole factor, those below
/// original_context / high are kept, and between the two the reciprocals are blended.
double llama3_divisor(double frequency, const RopeScaling& scaling) {
  const double turns =
      static_cast<double>(scaling.original_context) * frequency / (2 * std::numbers::pi);
  if (turns > scaling.high_frequency_factor) return 1;
  if (turns < scaling.low_frequency_factor) return scaling.factor;
  const double smooth = (turns - scaling.low_frequency_factor) /
                        (scaling.high_frequency_factor - scaling.low_frequency_factor);
  return 1 / ((1 - smooth) / scaling.factor + smooth);
}

}  // namespace

void check_config(const ModelConfig& config, std::string_view where) {
  check_size("hidden size", config.hidden, kMostHidden, where);
  check_size("number of layers", config.layers, kMostLayers, where);
  check_size("number of attention heads", config.heads, kMostHeads, where);
  check_size("number of key/value heads", config.kv_heads, kMostHeads, where);
  check_size("head size", config.head_dim, kMostHeadDim, where);
  check_size("feed-forward size", config.ffn, kMostFfn, where);
  check_size("vocabulary size", config.vocabulary, kMostVocabulary, where);
  check_size("context length", config.context, kMostContext, where);
  check_number("RMS norm epsilon", config.norm_epsilon, 1, where);
  check_number("RoPE theta", config.rope_theta, 1e12, where);
  check_rope_scaling(config.rope_scaling, where);
  if (config.sliding_window < 0) {
    throw Error(fmt::format("{}: sliding window is {}, must not be negative", where,
                            config.sliding_window));
  }
  if (config.heads % config.kv_heads != 0) {
    throw Error(fmt::format("{}: {} attention heads do not share out {} key/value heads evenly",
                            where, config.heads, config.kv_heads));
  }
  if (config.head_dim % 2 != 0) {
    throw Error(fmt::format("{}: head size {} is odd; rotary positions turn pairs", where,
                            config.head_dim));
  }
}

std::vector<float> llama3_rope_factors(const ModelConfig& config) {
  std::vector<float> factors;
  if (config.rope_scaling.kind != RopeScaling::Kind::kLlama3) return factors;
  for (int64_t i = 0; i < config.head_dim; i += 2) {
    const double exponent = static_cast<double>(i) / static_cast<double>(config.head_dim);
    const double frequency = std::pow(config.rope_theta, -exponent);
    factors.push_back(static_cast<float>(llama3_divisor(frequency, config.rope_scaling)));
  }
  return factors;
}

}  // namespace fewbits
