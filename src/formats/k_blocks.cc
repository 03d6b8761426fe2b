#include "formats/k_blocks.h"

namespace fewbits::k_blocks {

void pack_scales(const BlockParameters& parameters, std::byte* out) {
  uint8_t* bytes = as_bytes(out);
  for (size_t j = 0; j < 4; ++j) {
    const auto low = static_cast<unsigned>(parameters.sub_scale[j]);
    const auto high = static_cast<unsigned>(parameters.sub_scale[j + 4]);
    const unsigned low_minimum = parameters.sub_minimum[j];
    const unsigned high_minimum = parameters.sub_minimum[j + 4];
    bytes[j] = static_cast<uint8_t>(low | (high >> 4) << 6);
    bytes[j + 4] = static_cast<uint8_t>(low_minimum | (high_minimum >> 4) << 6);
    bytes[j + 8] = static_cast<uint8_t>((high & 15) | (high_minimum & 15) << 4);
  }
}

void unpack_scales(const std::byte* in, BlockParameters& parameters) {
  const uint8_t* bytes = as_bytes(in);
  for (size_t j = 0; j < 4; ++j) {
    parameters.sub_scale[j] = static_cast<int8_t>(bytes[j] & 63);
    parameters.sub_minimum[j] = bytes[j + 4] & 63;
    parameters.sub_scale[j + 4] = static_cast<int8_t>((bytes[j + 8] & 15) | (bytes[j] >> 6) << 4);
    parameters.sub_minimum[j + 4] =
        static_cast<uint8_t>(bytes[j + 8] >> 4 | (bytes[j + 4] >> 6) << 4);
  }
}

}  // namespace fewbits::k_blocks
