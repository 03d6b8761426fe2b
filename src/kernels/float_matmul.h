#pragma once

#include <cstddef>

#include "kernels/activations.h"
#include "kernels/matmul.h"
#include "kernels/packed_matrix.h"

// Products of many tokens with weights of 16 or 32 bits by the float kernels.
//
// Inputs lie side by side, groups of tokens that the kernel multiplies together. A pair of panels
// of weights stays in the first-level cache while tokens pass, and these tokens' values for the
// panel in the second while a strip of rows takes its turn, so that inputs come from further away
// once a strip and not once a pair.
namespace fewbits {

/// Whether a product goes this way. REQUIRES: it does not go by tiles.
bool go_by_float_strips(const PackedMatrix::Impl& matrix, const Activations::Impl& input);

/// Strips of rows that a product falls into.
int64_t float_strips(const PackedMatrix::Impl& matrix, const Activations::Impl& input);

/// Bytes of scratch that multiply_float_strip needs.
int64_t float_scratch_bytes(const PackedMatrix::Impl& matrix, const Activations::Impl& input);

/// REQUIRES: input.make_side_by_side.
void multiply_float_strip(const MatrixProduct& product, const Activations::Impl& input,
                          int64_t strip, std::byte* scratch);

}  // namespace fewbits
