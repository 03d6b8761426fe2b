#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/attention_shape.h"
#include "kernels/isa_tables.h"

namespace fewbits {
namespace {
#include "kernels/tile_shape.inl"
//
#include "kernels/floats_avx2.inl"
//
#include "kernels/bytes_256.inl"
//
#include "kernels/bytes_avxvnni.inl"
//
#include "kernels/vnni_products.inl"
//
#include "kernels/whole_signs.inl"
//
#include "kernels/single_tokens.inl"
//
#include "kernels/kernels.inl"
}  // namespace

const KernelTable kAvxVnniTable = make_table("avxvnni");

}  // namespace fewbits
