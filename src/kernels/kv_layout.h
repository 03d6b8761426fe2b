#pragma once

#include <cstdint>

// How coded keys and values lie in memory. Tokens of one head are coded in chunks of 32; a chunk is
//
//     [ scales: halves ][ minimums: halves, where there are any ][ codes ]
//
// and its codes are a matrix whose rows are packed into bytes and whose lanes lie side by side, so
// that one load gives the codes of 16 lanes and no sum crosses lanes:
//
//     keys     two matrices, one for each 16 tokens:  row = dimension, lane = token
//     values   one matrix:                            row = token, lane = dimension
//
// Rows share a byte where codes have 1, 2 or 4 bits, the first row in its lowest bits. Codes of 3
// bits are a matrix of their lower 2 bits, then one of the third.
//
//     value = scale * level(code) + minimum
namespace fewbits {

/// Tokens of a chunk.
inline constexpr int64_t kKvChunk = 32;

/// Dimensions of a token that share a scale where scales are for blocks. Heads are padded with
/// zeros to a multiple of it.
inline constexpr int64_t kKvBlock = 32;

/// Of a coded head: what decoding keeps on the stack.
inline constexpr int64_t kKvWidestHead = 1024;

enum class KvCodes : uint8_t {
  kHalf,
  kBfloat,
  kFloat8,   ///< E4M3
  kSigned8,  ///< the code, as an int8, is the level
  kLevels,   ///< KvPart::levels
};

enum class KvScales : uint8_t {
  kNone,
  kToken,           ///< one for each token: [32]
  kBlock,           ///< one for each token's block: [width / 32][32]
  kBlockMinimum,    ///< and a minimum
  kChannelMinimum,  ///< one for each dimension, with a minimum: [width]. Of keys only
};

/// One code of each value. Plain data: the kernels' object files may hold no inline function of a
/// header.
struct KvPart {
  KvCodes codes = KvCodes::kHalf;
  KvScales scales = KvScales::kNone;
  int bits = 16;
  bool has_minimums = false;
  int64_t scale_count = 0;      ///< in a chunk
  int64_t parameter_bytes = 0;  ///< scales and minimums
  int64_t code_bytes = 0;
  float levels[16] = {};
};

/// A chunk whose parts lie one behind the other. Decoded keys have the values of all parts: the
/// queries they are multiplied with have as many ([parts][width]).
struct KvChunkLayout {
  const KvPart* parts = nullptr;
  int64_t part_count = 0;
  int64_t width = 0;  ///< dimensions of a part, a multiple of kKvBlock, at most kKvWidestHead
  int64_t chunk_bytes = 0;
};

/// Values of a chunk as floats: for each 16 dimensions, [32 tokens][16], `stride` floats apart.
struct KvStrips {
  float* strips;
  int64_t stride;
};

}  // namespace fewbits
