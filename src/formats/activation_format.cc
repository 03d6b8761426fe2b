#include "formats/activation_format.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/text.h"
#include "formats/lanes.h"
#include "formats/search.h"
#include "formats/small_floats.h"

namespace fewbits {
namespace {

using namespace small_floats;
using Scale = ActivationFormat::Scale;

constexpr int64_t kMxGroup = 32, kNvGroup = 16, kTileGroup = 128;

template <class Rounding>
void round_values(const float* in, int64_t count, float scale, float* out) {
  int64_t i = 0;
  for (; i + kLanesOf<Float4> <= count; i += kLanesOf<Float4>) {
    store_lanes(splat(scale) * Rounding::levels(load_lanes<Float4>(in + i) / splat(scale)),
                out + i);
  }
  for (; i < count; ++i) out[i] = scale * Rounding::levels(splat(in[i] / scale))[0];
}

template <class Float>
constexpr ActivationFormat floats(std::string_view name, Scale scale = Scale::kFloat,
                                  int64_t group = 0) {
  return {.name = name,
          .largest = Float::kLargest,
          .scale = scale,
          .group = group,
          .round = round_values<typename Float::Rounding>};
}

template <int kLargest>
constexpr ActivationFormat integers(std::string_view name) {
  return {.name = name,
          .largest = kLargest,
          .codes = kLargest == 127,
          .round = round_values<search::UniformRounding<-kLargest, kLargest>>};
}

constexpr ActivationFormat mxint8() {
  ActivationFormat format = integers<127>("mxint8");
  format.scale = Scale::kPower;
  format.group = kMxGroup;
  format.codes = false;
  return format;
}

constexpr std::array kFormats = {
    floats<E4M3>("fp8"),
    floats<E5M2>("fp8_e5m2"),
    floats<E4M3>("fp8_g128", Scale::kFloat, kTileGroup),
    integers<7>("int4"),
    integers<127>("int8"),
    floats<E2M1>("mxfp4", Scale::kPower, kMxGroup),
    floats<E2M3>("mxfp6_e2m3", Scale::kPower, kMxGroup),
    floats<E3M2>("mxfp6_e3m2", Scale::kPower, kMxGroup),
    floats<E4M3>("mxfp8", Scale::kPower, kMxGroup),
    floats<E5M2>("mxfp8_e5m2", Scale::kPower, kMxGroup),
    mxint8(),
    floats<E2M1>("nvfp4", Scale::kE4M3, kNvGroup),
};

/// The largest magnitude; NaN where a value is no finite number.
float largest_of(const float* in, int64_t count) {
  float largest = 0, nothing = 0;
  for (int64_t i = 0; i < count; ++i) {
    largest = std::max(largest, std::abs(in[i]));
    nothing += in[i] * 0;
  }
  return largest + nothing;
}

/// The least power of two that is at least `value`, within the exponents that E8M0 has.
float power_at_least(float value) {
  if (!std::isfinite(value)) return value;
  constexpr int kMost = 127;
  int exponent = 0;
  const float fraction = std::frexp(value, &exponent);  // in [1/2, 1)
  if (fraction == 0.5f) --exponent;
  return std::ldexp(1.0f, std::clamp(exponent, -kMost, kMost));
}

/// The scale of a block as E4M3 keeps it, in units of `unit`.
float e4m3_scale(float wanted, float unit) {
  constexpr float kLeast = 0x1p-9f;
  if (!std::isfinite(wanted)) return wanted;
  return E4M3::Rounding::levels(splat(std::clamp(wanted / unit, kLeast, E4M3::kLargest)))[0] * unit;
}

float scale_of(const ActivationFormat& format, float largest, float unit) {
  const float wanted = largest / format.largest;
  switch (format.scale) {
    case Scale::kPower:
      return power_at_least(wanted);
    case Scale::kE4M3:
      return e4m3_scale(wanted, unit);
    default:
      return wanted;
  }
}

}  // namespace

std::span<const ActivationFormat> activation_formats() {
  return kFormats;
}

const ActivationFormat& activation_format_named(std::string_view name) {
  std::vector<std::string> known;
  for (const ActivationFormat& format : kFormats) {
    if (format.name == name) return format;
    known.emplace_back(format.name);
  }
  throw Error(unknown_name(name, "activation format", known));
}

void round_activations(const ActivationFormat& format, const float* in, int64_t count,
                       float static_scale, float* out) {
  const bool blocks = format.scale == Scale::kE4M3;
  float unit = static_scale;
  if (blocks && unit == 0) unit = largest_of(in, count) / (format.largest * E4M3::kLargest);
  const bool fixed = static_scale > 0 && !blocks;
  const int64_t group = format.group > 0 ? format.group : count;
  for (int64_t begin = 0; begin < count; begin += group) {
    const int64_t size = std::min(group, count - begin);
    const float largest = largest_of(in + begin, size);
    if (largest == 0 || std::isnan(largest)) {
      std::fill_n(out + begin, size, largest);
      continue;
    }
    // A scale may come out as 0 where the values are next to nothing.
    const float scale = fixed ? static_scale : scale_of(format, largest, unit);
    format.round(in + begin, size, std::max(scale, std::numeric_limits<float>::min()), out + begin);
  }
}

}  // namespace fewbits
