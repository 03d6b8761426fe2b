#include "base/half.h"
#include "formats/bit_planes.h"
#include "formats/format.h"

// bfloat16, little endian.
namespace fewbits::bf16 {
namespace {

void decode_floats(const std::byte* bytes, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = bfloat16_to_float(load_half(bytes + 2 * i));
}

void encode_floats(const float* values, int64_t count, std::byte* out) {
  for (int64_t i = 0; i < count; ++i) store_half(bfloat16_from_float(values[i]), out + 2 * i);
}

}  // namespace

extern const Format format;
constinit const Format format = {
    .name = "BF16",
    .gguf_type = 30,
    .block_values = 1,
    .block_bytes = 2,
    .sub_block_values = 1,
    .levels = {},
    .gaussian_error = 2.79e-6,
    .decode_floats = decode_floats,
    .encode_floats = encode_floats,
};

}  // namespace fewbits::bf16
