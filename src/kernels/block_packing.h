#pragma once

#include <cstddef>
#include <cstdint>

#include "formats/bit_planes.h"
#include "formats/format.h"
#include "kernels/block_layout.h"

// Between a format's own blocks and the row-interleaved ones of block_layout.h.
namespace fewbits {

/// Writes one row of a group: its dwords of every plane, its entries of every parameter list.
void pack_block_row(const BlockLayout& layout, const Format& format, const std::byte* in,
                    int64_t columns, int64_t row, uint8_t* group);

/// The row's values, bit for bit, where the layout holds vectors.
void decode_block_row(const BlockLayout& layout, const Format& format, const uint8_t* group,
                      int64_t columns, int64_t row, float* out);

/// The format's bytes again, exactly. REQUIRES: the layout does not hold vectors.
void unpack_block_row(const BlockLayout& layout, const Format& format, const uint8_t* group,
                      int64_t columns, int64_t row, std::byte* out);

}  // namespace fewbits
