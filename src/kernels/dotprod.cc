#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#include "kernels/attention_shape.h"
#include "kernels/isa_tables.h"

namespace fewbits {
namespace {
#include "kernels/tile_shape.inl"
//
#include "kernels/floats_neon.inl"
//
#include "kernels/bytes_neon.inl"
// 12 sums, 12 results, 4 rows, 1 input
constexpr TileShape kBlockTile = {.tokens = 3, .panels = 1};
//
#include "kernels/whole_signs.inl"
//
#include "kernels/single_tokens.inl"
//
#include "kernels/kernels.inl"
}  // namespace

const KernelTable kDotprodTable = make_table("dotprod");

}  // namespace fewbits
