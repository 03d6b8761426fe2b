#pragma once

#include <array>
#include <cstdint>

// The code books of GGUF's IQ formats. An entry is a vector of 8 or, for IQ3, 4 magnitudes; 2 bits
// (IQ3: 3) of it, lowest first, say which each is:
//
//     IQ1    8 of -1, 0, 1
//     IQ2    8 of 8, 25, 43
//     IQ3    4 of 4, 12, 20, 28, 36, 44, 52, 62 (IQ3_XXS) or 1, 3, ... 15 (IQ3_S)
namespace fewbits::iq {

extern const std::array<uint16_t, 256> kIq2XxsGrid;
extern const std::array<uint16_t, 512> kIq2XsGrid;
extern const std::array<uint16_t, 1024> kIq2SGrid;
extern const std::array<uint16_t, 256> kIq3XxsGrid;
extern const std::array<uint16_t, 512> kIq3SGrid;
extern const std::array<uint16_t, 2048> kIq1Grid;

}  // namespace fewbits::iq
