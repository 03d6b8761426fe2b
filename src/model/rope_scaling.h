#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

// How rotary frequencies are stretched so that a model reaches a longer context than it was first
// trained on.
namespace fewbits {

struct RopeScaling {
  enum class Kind {
    kNone,
    kLinear,    ///< every frequency divided by `factor`
    kLlama3,    ///< low frequencies divided by `factor`, high ones kept, a smooth passage between
    kYarn,      ///< the same with another passage, and turned vectors grow (arXiv 2309.00071)
    kLongRope,  ///< a divisor for each frequency, of which there are two sets (arXiv 2402.13753)
  };
  Kind kind = Kind::kNone;
  double factor = 1;
  double low_frequency_factor = 1;   ///< kLlama3
  double high_frequency_factor = 4;  ///< kLlama3
  int64_t original_context = 0;      ///< kLlama3, kYarn, kLongRope
  double beta_fast = 32;             ///< kYarn: turns in the original context from which on a
                                     ///< frequency is kept
  double beta_slow = 1;              ///< kYarn: turns below which it is divided by all of `factor`
  double magnitude = 1;              ///< of turned queries and keys, where they were of length 1
  double score_growth = 0;           ///< kYarn, DeepSeek's mscale_all_dim; 0: scores do not grow
  std::vector<float> short_factors = {};  ///< kLongRope, for contexts up to the original one
  std::vector<float> long_factors = {};   ///< kLongRope, for longer ones
};

/// By how much YaRN lets attention grow: 1 + growth * ln(factor) / 10 for factors above 1.
double yarn_growth(double factor, double growth = 1);

/// What each of the frequencies theta^(-2i / n), i < n / 2, is divided by under kLlama3, as GGUF
/// keeps it in rope_freqs.weight, or under kYarn; empty for the other kinds. Formulas: Hugging
/// Face's modeling_rope_utils.
std::vector<float> rope_divisors(const RopeScaling& scaling, double theta, int64_t dims);

/// Throws Error that begins with `where` unless every number is in its bounds. `dims`: as above.
void check_rope_scaling(const RopeScaling& scaling, int64_t dims, std::string_view where);

}  // namespace fewbits
