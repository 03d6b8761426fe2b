#include <cstddef>
#include <cstdint>

#include "kernels/attention_shape.h"
#include "kernels/isa_tables.h"

namespace fewbits {
namespace {
#include "kernels/tile_shape.inl"
//
#include "kernels/floats_scalar.inl"
//
#include "kernels/bytes_scalar.inl"
//
#include "kernels/whole_signs.inl"
//
#include "kernels/single_tokens.inl"
//
#include "kernels/kernels.inl"
}  // namespace

const KernelTable kScalarTable = make_table("scalar");

}  // namespace fewbits
