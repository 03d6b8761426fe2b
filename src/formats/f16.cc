#include "base/half.h"
#include "formats/bit_planes.h"
#include "formats/format.h"
#include "formats/lanes.h"

// binary16, little endian.
namespace fewbits::f16 {
namespace {

FEWBITS_WIDE_LANES void decode_floats(const std::byte* bytes, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = half_to_float(load_half(bytes + 2 * i));
}

void encode_floats(const float* values, int64_t count, std::byte* out) {
  for (int64_t i = 0; i < count; ++i) store_half(half_from_float(values[i]), out + 2 * i);
}

}  // namespace

extern const Format format;
constinit const Format format = {
    .name = "F16",
    .gguf_type = 1,
    .block_values = 1,
    .block_bytes = 2,
    .sub_block_values = 1,
    .levels = {},
    .gaussian_error = 4.35e-8,
    .decode_floats = decode_floats,
    .encode_floats = encode_floats,
};

}  // namespace fewbits::f16
