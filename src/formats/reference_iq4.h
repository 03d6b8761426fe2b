#pragma once

#include <cstdint>

// ggml's encoders of IQ4_NL and IQ4_XS.
namespace fewbits::reference {

/// Scales of four sub-blocks of 32 values on the levels of kIq4Levels.
void search_iq4(const float* values, const float* weights, float* scales);

/// The nearest level's code of each of 32 values; `inverse` is 1 / scale, or 0.
void iq4_codes(const float* values, float inverse, uint8_t* codes);

/// Weights of `count` values: with importance as importance_weights, without it the squares.
/// `spread` is twice the mean square of the whole block.
void iq4_weights(const float* values, const float* importance, int count, float spread,
                 float* weights);

}  // namespace fewbits::reference
