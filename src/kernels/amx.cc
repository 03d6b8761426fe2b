#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/isa_tables.h"

// Products by AMX: a tile holds 16 rows of 64 bytes, and one instruction adds the product of 16
// tokens and 16 rows over 32 columns of bfloats to 16 x 16 floats. The unit multiplies bytes twice
// as fast, but to sums of whole numbers that every block's scale would have to leave the tiles for;
// weights that become bfloats with their scales in them stay there from the first column to the
// last. A bfloat of an input is nearer to it than an int8 code is.
namespace fewbits {
namespace {
#include "kernels/tile_shape.inl"
//
#include "kernels/floats_avx512.inl"
//
#include "kernels/bytes_avx512.inl"
//
#include "kernels/block_codes.inl"
//
#include "kernels/bfloat_tiles.inl"

constexpr TileKernels make_tiles() {
  TileKernels kernels = {
      .tile_inputs = tile_inputs,
      .tile_weights = tile_weights,
      .unpack = {},
      .multiply = multiply_tiles,
      .probe = probe_tiles,
  };
  add_unpack<0>(kernels);
  return kernels;
}
}  // namespace

const TileKernels kAmxTable = make_tiles();

}  // namespace fewbits
