#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "formats/format.h"

// IQ2 and IQ3 value by value, for whoever cannot work with vectors: each value is one of at most 16
// signed levels (three or eight magnitudes) times the scale of its sub-block, which is a small odd
// integer times d times a power of two.
namespace fewbits::iq {

/// In ascending order; IQ2 has six and fills up with zeros. Exact for IQ2_* and IQ3_*.
const std::array<int8_t, 16>& signed_levels(const Format& format);

/// parameters.scale is d, parameters.sub_scale the odd integers. REQUIRES: an IQ2 or IQ3.
void level_codes(const Format& format, const std::byte* block, BlockParameters& parameters,
                 uint8_t* codes);

}  // namespace fewbits::iq
