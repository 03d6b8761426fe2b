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
namespace iq4_nl {
extern const Format format;
}
namespace iq4_xs {
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

namespace {

constexpr std::array<const Format*, 42> kFormats = {
    &bf16::format,
    &f16::format,
    &f32::format,
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
    &iq4_nl::format,
    &iq4_xs::format,
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
