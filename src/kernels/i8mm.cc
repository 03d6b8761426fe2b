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
//
#include "kernels/token_pairs_i8mm.inl"
//
#include "kernels/whole_signs.inl"
//
#include "kernels/kernels.inl"
}  // namespace

const KernelTable kI8mmTable = make_table("i8mm");

}  // namespace fewbits
