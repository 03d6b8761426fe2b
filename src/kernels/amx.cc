#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/isa_tables.h"

// Products by AMX: a tile holds 16 rows of 64 bytes, and one instruction adds the product of 16
// tokens and 16 rows over 32 columns of bfloats, or 64 of int8, to 16 x 16 sums. Bytes go twice as
// fast, but to sums of whole numbers that every block's scale would have to leave the tiles for.
// So int8 is for one scale of a whole row times one of a whole token; all other weights become
// bfloats with their scales in them, whose sums stay in tiles. A bfloat of an input is nearer to it
// than an int8 code is.
namespace fewbits {
namespace {
#include "kernels/tile_shape.inl"
//
#include "kernels/floats_avx512.inl"
//
#include "kernels/bytes_avx512.inl"
//
#include "kernels/vnni_products.inl"
//
#include "kernels/block_codes.inl"
//
#include "kernels/bfloat_tiles.inl"
//
#include "kernels/code_tiles.inl"
//
#include "kernels/tile_product.inl"

template <int kIndex>
constexpr void add_unpack(TileKernels& kernels) {
  if constexpr (kIndex < kBlockLayoutCount) {
    kernels.unpack[kIndex] = unpack_tiles<kIndex>;
    if constexpr (kBlockLayouts[kIndex].super_scale == SuperScale::kRow)
      kernels.unpack_codes[kIndex] = unpack_codes<kIndex>;
    add_unpack<kIndex + 1>(kernels);
  }
}

constexpr TileKernels make_tiles() {
  TileKernels kernels = {
      .tile_inputs = tile_inputs,
      .tile_codes = tile_codes,
      .tile_weights = tile_weights,
      .unpack = {},
      .unpack_codes = {},
      .multiply_bfloats = multiply_tiles<Bfloats>,
      .multiply_codes = multiply_tiles<Codes>,
      .probe = probe_tiles,
  };
  add_unpack<0>(kernels);
  return kernels;
}
}  // namespace

const TileKernels kAmxTable = make_tiles();

}  // namespace fewbits
