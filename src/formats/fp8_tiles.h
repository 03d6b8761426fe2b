#pragma once

#include <cstdint>

#include "formats/format.h"

// FP8 as DeepSeek's models have it: E4M3 with a float scale for 128 values.
//
//     128 values:  [ float scale | 128 codes ]
//
// In model folders 128 rows share their scales: a tile of 128 x 128. A tile's scale is that of a
// row of 128 * 128 values.
namespace fewbits {

inline constexpr int64_t kTileSize = 128;

/// Rows of which the blocks that lie above each other have one scale in model folders: 1 for all
/// other formats.
int64_t tile_rows(const Format& format);

/// Encodes up to kTileSize rows, the blocks that lie above each other with one scale. REQUIRES: a
/// format with tiles, columns are whole blocks.
void encode_tiles(const Format& format, const float* values, int64_t rows, int64_t columns,
                  std::byte* out);

}  // namespace fewbits
