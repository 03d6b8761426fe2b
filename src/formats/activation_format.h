#pragma once

#include <cstdint>
#include <span>
#include <string_view>

// How the inputs of a linear layer are rounded on their way into it. Scales are those that kernels
// find as the values come, by the largest of them, without a search:
//
//     int8 int4 fp8 ...    a float for each token: largest / largest level
//     fp8_g128             the same for each 128 values of it (DeepSeek)
//     mx...                a power of two for each 32 values, rounded up, so that nothing is cut
//                          off (OCP Microscaling; the specification's own rule rounds down)
//     nvfp4                an E4M3 for each 16 values, times a float for the token
//
// A static scale, measured in calibration, takes the place of the token's float. Integers keep to
// the levels that both signs have.
namespace fewbits {

struct ActivationFormat {
  enum class Scale : uint8_t {
    kFloat,
    kPower,  ///< of two
    kE4M3,   ///< times a float
  };

  std::string_view name;
  float largest;  ///< level
  Scale scale = Scale::kFloat;
  int64_t group = 0;  ///< consecutive values of a token that share a scale; 0: all of them
  /// Whether integer kernels compute the same: codes of 8 bits, one scale for a token.
  bool codes = false;
  /// out[i] = scale * the level nearest to in[i] / scale.
  void (*round)(const float* in, int64_t count, float scale, float* out) = nullptr;

  bool can_be_static() const { return scale == Scale::kE4M3 || group == 0; }
};

/// Sorted by name.
std::span<const ActivationFormat> activation_formats();

/// Throws Error that lists the known ones.
const ActivationFormat& activation_format_named(std::string_view name);

/// One token. `static_scale` is what a code of 1 is worth (of NVFP4: what multiplies the scales of
/// its blocks); 0: found from the values. A value that is no finite number makes all results NaN.
/// `out` may be `in`.
void round_activations(const ActivationFormat& format, const float* in, int64_t count,
                       float static_scale, float* out);

}  // namespace fewbits
