#include <cstring>

#include "formats/format.h"

// IEEE 754 binary32, as it lies in memory.
namespace fewbits::f32 {
namespace {

void decode_floats(const std::byte* bytes, int64_t count, float* out) {
  std::memcpy(out, bytes, static_cast<size_t>(count) * sizeof(float));
}

void encode_floats(const float* values, int64_t count, std::byte* out) {
  std::memcpy(out, values, static_cast<size_t>(count) * sizeof(float));
}

}  // namespace

extern const Format format;
constinit const Format format = {
    .name = "F32",
    .gguf_type = 0,
    .block_values = 1,
    .block_bytes = 4,
    .sub_block_values = 1,
    .levels = {},
    .gaussian_error = 0,
    .decode_floats = decode_floats,
    .encode_floats = encode_floats,
};

}  // namespace fewbits::f32
