#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/attention_shape.h"
#include "kernels/isa_tables.h"

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
#include "kernels/whole_signs.inl"
//
#include "kernels/single_tokens.inl"
//
#include "kernels/kernels.inl"
}  // namespace

const KernelTable kAvx512Table = make_table("avx512");

}  // namespace fewbits
