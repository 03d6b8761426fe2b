#pragma once

#include <vector>

#include "kernels/huge_buffer.h"
#include "kernels/kernel_table.h"
#include "kernels/matmul.h"

namespace fewbits {

/// What inputs are as tiles.
enum class TileForm : uint8_t {
  kNone,      ///< no tiles
  kRounded,   ///< bfloats
  kParts,     ///< bfloats, and after all of them those of what rounding left
  kIntegers,  ///< bfloats of the int8 codes
  kCodes,     ///< the int8 codes
};
constexpr int64_t kTileForms = 5;

struct Activations::Impl {
  const float* values = nullptr;
  int64_t tokens = 0;
  int64_t columns = 0;

  CodeScales scales{};
  bool blocks_ready = false;
  BlockInputs blocks{};  ///< of all tokens, in block_memory
  HugeBuffer block_memory;

  struct Starts {
    bool ready = false;
    std::vector<int32_t> sums;  ///< [sub-block][token], laid out as the blocks are
  };
  static constexpr int kMostShift = 8;
  Starts starts[2][kMostShift];  ///< of sub-blocks of 32 values and of 16, by zero shift

  bool floats_ready = false;
  HugeBuffer floats;  ///< [kSideBySide tokens][columns][kSideBySide]

  struct Tiles {
    bool ready = false;
    HugeBuffer memory;  ///< [16 tokens][step][kTileBytes]
  };
  Tiles tiles[kTileForms];
  int threads = 1;  ///< of the pool that multiplies
  std::vector<HugeBuffer>
      scratch;  ///< one for each thread of the pool, grown when a product needs more

  /// Makes the int8 form unless it is there. REQUIRES: columns are whole blocks of 32.
  void make_blocks(ThreadPool& pool);
  /// Makes what sums with codes of a layout start from. REQUIRES: make_blocks.
  void make_starts(const BlockLayout& layout);
  /// Those from column `column` of the first token on; null where codes have no zero point.
  const int32_t* starts_at(const BlockLayout& layout, int64_t column) const;
  /// The same for floats side by side, and where those of `token` begin, the first of its group.
  void make_side_by_side(ThreadPool& pool);
  const float* side_by_side(int64_t token) const {
    return reinterpret_cast<const float*>(floats.data()) + token * columns;
  }
  /// The same for tiles of a form. REQUIRES: columns are whole tiles, and the kernels have them.
  void make_tiles(TileForm form, ThreadPool& pool);
  const uint8_t* tile_data(TileForm form) const;
  /// Bytes of 16 tokens.
  int64_t tile_stride(TileForm form) const;
};

/// The inputs of `token`, from column `column` on (a multiple of 32).
BlockInputs inputs_at(const BlockInputs& all, int64_t columns, int64_t token, int64_t column);

}  // namespace fewbits
