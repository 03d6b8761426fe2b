#pragma once

#include <cstddef>

#include "kernels/activations.h"
#include "kernels/matmul.h"
#include "kernels/packed_matrix.h"

// Products of many tokens on processors with a unit for matrices (TileKernels).
//
// Blocks and inputs become bfloats, weights once for all tokens that pass together; sums are
// floats. A bfloat of an input is nearer to it than the int8 code that other machines multiply.
// Where inputs are to be int8 with one scale for a token, their codes are what is multiplied: with
// codes of weights that have one scale for a row as integers, with others as bfloats, which hold
// every code exactly. Weights of 16 bits and their inputs are taken in two parts each, which keeps
// 16 bits of an input and all of a weight; weights of 32 bits stay with the float kernels.
namespace fewbits {

/// Whether so many tokens go this way, whatever the blocks that they are multiplied with.
bool go_by_tiles(int64_t tokens);

/// What a product wants its inputs as: by its shape, its format and the machine. kNone: it does not
/// go this way.
TileForm tile_form(const PackedMatrix::Impl& matrix, const Activations::Impl& input);

/// Strips of rows that a product falls into.
int64_t tile_strips(const PackedMatrix::Impl& matrix, const Activations::Impl& input);

/// Bytes of scratch that multiply_strip needs.
int64_t tile_scratch_bytes(const PackedMatrix::Impl& matrix, const Activations::Impl& input);

/// REQUIRES: input.make_tiles.
void multiply_strip(const MatrixProduct& product, const Activations::Impl& input, int64_t strip,
                    std::byte* scratch);

}  // namespace fewbits
