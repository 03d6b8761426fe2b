#pragma once

#include <cstddef>
#include <cstdint>

// Encoders of the formats of iq.cc: rows of whole blocks, as Format::encode_vectors.
namespace fewbits::iq {

void encode_iq1_m(const float* row, int64_t columns, const float* importance, std::byte* out);
void encode_iq1_s(const float* row, int64_t columns, const float* importance, std::byte* out);
void encode_iq2_s(const float* row, int64_t columns, const float* importance, std::byte* out);
void encode_iq2_xs(const float* row, int64_t columns, const float* importance, std::byte* out);
void encode_iq2_xxs(const float* row, int64_t columns, const float* importance, std::byte* out);
void encode_iq3_s(const float* row, int64_t columns, const float* importance, std::byte* out);
void encode_iq3_xxs(const float* row, int64_t columns, const float* importance, std::byte* out);

}  // namespace fewbits::iq
