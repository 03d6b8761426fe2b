#include <algorithm>
#include <array>

#include "base/error.h"
#include "base/text.h"
#include "formats/format.h"

namespace fewbits {

// Each in the file of its name, or that of its family.
namespace bf16 {
extern const Format format;
}
namespace f16 {
extern const Format format;
}
namespace f32 {
extern const Format format;
}
namespace fp8_tiles {
extern const Format fp8_e4m3_b128;
}
namespace ints {
extern const Format int2_g128;
extern const Format int2_g128_asym;
extern const Format int2_g32;
extern const Format int2_g64;
extern const Format int2_g64_asym;
extern const Format int3_channel;
extern const Format int3_g128;
extern const Format int3_g128_asym;
extern const Format int3_g32;
extern const Format int4_channel;
extern const Format int4_channel_asym;
extern const Format int4_g128;
extern const Format int4_g128_asym;
extern const Format int4_g32;
extern const Format int4_g32_asym;
extern const Format int4_g32_narrow;
extern const Format int4_g64;
extern const Format int4_g64_asym;
extern const Format int4_tensor;
extern const Format int8_channel;
extern const Format int8_channel_asym;
extern const Format int8_channel_narrow;
extern const Format int8_g128;
extern const Format int8_g128_asym;
extern const Format int8_g32;
extern const Format int8_tensor;
extern const Format int8_tensor_asym;
}  // namespace ints
namespace iq {
extern const Format iq1_m;
extern const Format iq1_s;
extern const Format iq2_s;
extern const Format iq2_xs;
extern const Format iq2_xxs;
extern const Format iq3_s;
extern const Format iq3_xxs;
}  // namespace iq
namespace iq4_nl {
extern const Format format;
}
namespace iq4_xs {
extern const Format format;
}
namespace mx {
extern const Format mxfp6_e2m3;
extern const Format mxfp6_e3m2;
extern const Format mxfp8_e4m3;
extern const Format mxfp8_e5m2;
extern const Format mxint8;
}  // namespace mx
namespace mxfp4 {
extern const Format format;
}
namespace nf4 {
extern const Format format;
}
namespace nvfp4 {
extern const Format format;
}
namespace nvfp4_tensor {
extern const Format format;
}
namespace q2_k {
extern const Format format;
}
namespace q3_k {
extern const Format format;
}
namespace q4_0 {
extern const Format format;
}
namespace q4_1 {
extern const Format format;
}
namespace q4_k {
extern const Format format;
}
namespace q5_0 {
extern const Format format;
}
namespace q5_1 {
extern const Format format;
}
namespace q5_k {
extern const Format format;
}
namespace q6_k {
extern const Format format;
}
namespace q8_0 {
extern const Format format;
}
namespace tq {
extern const Format tq1_0;
extern const Format tq2_0;
}  // namespace tq
namespace whole_floats {
extern const Format fp4_e2m1;
extern const Format fp4_e2m1_channel;
extern const Format fp6_e2m3;
extern const Format fp6_e2m3_channel;
extern const Format fp6_e3m2;
extern const Format fp6_e3m2_channel;
extern const Format fp8_e4m3;
extern const Format fp8_e4m3_channel;
extern const Format fp8_e5m2;
extern const Format fp8_e5m2_channel;
}  // namespace whole_floats

namespace {

constexpr std::array<const Format*, 71> kFormats = {
    &bf16::format,
    &f16::format,
    &f32::format,
    &whole_floats::fp4_e2m1,
    &whole_floats::fp4_e2m1_channel,
    &whole_floats::fp6_e2m3,
    &whole_floats::fp6_e2m3_channel,
    &whole_floats::fp6_e3m2,
    &whole_floats::fp6_e3m2_channel,
    &whole_floats::fp8_e4m3,
    &fp8_tiles::fp8_e4m3_b128,
    &whole_floats::fp8_e4m3_channel,
    &whole_floats::fp8_e5m2,
    &whole_floats::fp8_e5m2_channel,
    &ints::int2_g128,
    &ints::int2_g128_asym,
    &ints::int2_g32,
    &ints::int2_g64,
    &ints::int2_g64_asym,
    &ints::int3_channel,
    &ints::int3_g128,
    &ints::int3_g128_asym,
    &ints::int3_g32,
    &ints::int4_channel,
    &ints::int4_channel_asym,
    &ints::int4_g128,
    &ints::int4_g128_asym,
    &ints::int4_g32,
    &ints::int4_g32_asym,
    &ints::int4_g32_narrow,
    &ints::int4_g64,
    &ints::int4_g64_asym,
    &ints::int4_tensor,
    &ints::int8_channel,
    &ints::int8_channel_asym,
    &ints::int8_channel_narrow,
    &ints::int8_g128,
    &ints::int8_g128_asym,
    &ints::int8_g32,
    &ints::int8_tensor,
    &ints::int8_tensor_asym,
    &iq::iq1_m,
    &iq::iq1_s,
    &iq::iq2_s,
    &iq::iq2_xs,
    &iq::iq2_xxs,
    &iq::iq3_s,
    &iq::iq3_xxs,
    &iq4_nl::format,
    &iq4_xs::format,
    &mxfp4::format,
    &mx::mxfp6_e2m3,
    &mx::mxfp6_e3m2,
    &mx::mxfp8_e4m3,
    &mx::mxfp8_e5m2,
    &mx::mxint8,
    &nf4::format,
    &nvfp4::format,
    &nvfp4_tensor::format,
    &q2_k::format,
    &q3_k::format,
    &q4_0::format,
    &q4_1::format,
    &q4_k::format,
    &q5_0::format,
    &q5_1::format,
    &q5_k::format,
    &q6_k::format,
    &q8_0::format,
    &tq::tq1_0,
    &tq::tq2_0,
};

}  // namespace

std::span<const Format* const> formats() {
  return kFormats;
}

const Format* find_format(std::string_view name) {
  const std::string wanted = lower_ascii(name);
  for (const Format* format : kFormats) {
    if (lower_ascii(format->name) == wanted) return format;
  }
  return nullptr;
}

const Format* find_format_by_gguf_type(int64_t gguf_type) {
  for (const Format* format : kFormats) {
    if (format->gguf_type == gguf_type && gguf_type >= 0) return format;
  }
  return nullptr;
}

const Format& format_named(std::string_view name) {
  if (const Format* format = find_format(name)) return *format;
  std::vector<std::string> known;
  for (const Format* format : kFormats) known.emplace_back(format->name);
  throw Error(unknown_name(name, "format", known));
}

}  // namespace fewbits
