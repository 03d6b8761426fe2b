#pragma once

#include <vector>

#include "kernels/huge_buffer.h"
#include "kernels/kernel_table.h"
#include "kernels/matmul.h"

namespace fewbits {

/// Inputs as tiles of bfloats, [token tile][columns / 32][16][32].
struct TileInputs {
  uint16_t* rounded;
  uint16_t* rest;  ///< what rounding leaves
};

struct Activations::Impl {
  const float* values = nullptr;
  int64_t tokens = 0;
  int64_t columns = 0;

  CodeScales scales{};
  bool blocks_ready = false;
  BlockInputs blocks{};  ///< of all tokens, in block_memory
  HugeBuffer block_memory;

  bool tiles_ready = false, rests_ready = false;
  TileInputs tiles{};  ///< in tile_memory
  HugeBuffer tile_memory;
  int threads = 1;  ///< of the pool that multiplies
  std::vector<HugeBuffer>
      scratch;  ///< one for each thread of the pool, grown when a product needs more

  /// Makes the int8 form unless it is there. REQUIRES: columns are whole blocks of 32.
  void make_blocks(ThreadPool& pool);
  /// The same for tiles, and what rounding to them leaves where `rests`. REQUIRES: columns are
  /// whole tiles, and the kernels have them.
  void make_tiles(bool rests, ThreadPool& pool);
};

/// The inputs of `token`, from column `column` on (a multiple of 32).
BlockInputs inputs_at(const BlockInputs& all, int64_t columns, int64_t token, int64_t column);

}  // namespace fewbits
