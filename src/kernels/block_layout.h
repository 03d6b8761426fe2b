#pragma once

#include <cstdint>

// How block formats lie in a group of 16 rows. All of them are described by a few numbers, so that
// the kernels are three loops over this description and not one per format.
//
// Four consecutive values of a row are a *quad*; a block of 32 values has 8 of them. A plane holds
// `bits` bits of each code of a block: `bits` chunks of 64 bytes, dword r of a chunk belonging to
// row r. Chunk c holds the quads c, c + bits, c + 2 bits, ..., the first in the lowest bits of its
// bytes:
//
//     4 bits, chunk c:   byte 4 r + i  =  [ code i of quad c + 4 | code i of quad c ]     of row r
//
// One 32-byte load, a shift and a mask give the same quad of 8 rows; one broadcast quad of inputs
// multiplies them all. A code of 5 or 6 bits has a second plane with its upper bits.
//
//     super-block:  [ 16 halves: scale of each row ][ 16 halves: minimum ]      where there are
//     such blocks... block:        [ sub-block parameters of the 16 rows ][ low plane ][ high plane
//     ]
//
//     weight = scale * sub_scale * (code - 2^zero_shift) + minimum * sub_minimum
namespace fewbits {

constexpr int kBlockValues = 32;
constexpr int kQuads = 8;
constexpr int kQuadBytes = 64;  ///< one quad of 16 rows, a byte for each value

enum class SubScale : uint8_t {
  kNone,      ///< the super-block's scale and minimum are the block's
  kSigned,    ///< int8 scale
  kUnsigned,  ///< uint8 scales of the rows, then their uint8 minimums
  kNibbles,   ///< [ minimum | scale ] in one byte
  kE4M3,      ///< an E4M3 without a sign, doubled: [ exponent | mantissa * 2 ] in one byte
};

/// What multiplies a whole super-block.
enum class SuperScale : uint8_t {
  kHalf,
  kPower,        ///< a power of two, stored as bfloat: halves have too few of them
  kHalfOfLevel,  ///< nothing is stored: the levels of FP4 are twice its values
  kRow,          ///< nothing is stored: one scale for a row multiplies finished sums
};

/// What codes of four bits are looked up in.
enum class CodeTable : uint8_t {
  kNone,
  kIq4,     ///< level + 128, and zero_shift is 7
  kE2M1,    ///< level + 16, and zero_shift is 4
  kIq2,     ///< of three magnitudes with signs: level + 64, and zero_shift is 6
  kIq3Xxs,  ///< the same
  kIq3S,    ///< level + 16, and zero_shift is 4
};

constexpr int kNoZero = -1;  ///< zero_shift where the level is the code itself

struct BlockLayout {
  const char* format;  ///< the one format that lies so
  int low_bits;
  int high_bits = 0;
  int zero_shift = kNoZero;
  CodeTable table = CodeTable::kNone;
  SuperScale super_scale = SuperScale::kHalf;
  float unit = 1;  ///< what a scale of 1 is worth, of kHalf
  SubScale sub_scale = SubScale::kNone;
  int sub_blocks = 1;  ///< in a block of 32
  bool minimum = false;
  int super_blocks = 1;  ///< blocks of 32 that share a scale

  /// Bits of the codes that are multiplied.
  constexpr int code_bits() const {
    if (table == CodeTable::kNone) return low_bits + high_bits;
    if (table == CodeTable::kIq4) return 8;
    return table == CodeTable::kIq2 || table == CodeTable::kIq3Xxs ? 7 : 5;
  }
  constexpr bool has_header() const {
    return super_scale == SuperScale::kHalf || super_scale == SuperScale::kPower;
  }
  constexpr int super_header_bytes() const {
    if (!has_header()) return 0;
    return kHalfBytes * (minimum ? 2 : 1);
  }
  constexpr int parameter_bytes() const {
    if (sub_scale == SubScale::kNone) return 0;
    return 16 * sub_blocks * (sub_scale == SubScale::kUnsigned ? 2 : 1);
  }
  constexpr int block_bytes() const {
    return parameter_bytes() + kQuadBytes * (low_bits + high_bits);
  }
  constexpr int super_bytes() const { return super_header_bytes() + super_blocks * block_bytes(); }

  /// Codes in the file stand for vectors: packing cannot be undone, but decoded.
  constexpr bool vectors() const {
    return table == CodeTable::kIq2 || table == CodeTable::kIq3Xxs || table == CodeTable::kIq3S;
  }

  static constexpr int kHalfBytes = 32;
};

constexpr BlockLayout kBlockLayouts[] = {
    {.format = "int4_channel", .low_bits = 4, .zero_shift = 3, .super_scale = SuperScale::kRow},
    {.format = "int4_g128", .low_bits = 4, .zero_shift = 3, .super_blocks = 4},
    {.format = "int4_g32", .low_bits = 4, .zero_shift = 3},
    {.format = "int4_g64", .low_bits = 4, .zero_shift = 3, .super_blocks = 2},
    {.format = "int8_channel", .low_bits = 8, .zero_shift = 7, .super_scale = SuperScale::kRow},
    {.format = "int8_channel_narrow",
     .low_bits = 8,
     .zero_shift = 7,
     .super_scale = SuperScale::kRow},
    {.format = "int8_g128", .low_bits = 8, .zero_shift = 7, .super_blocks = 4},
    {.format = "int8_g32", .low_bits = 8, .zero_shift = 7},
    {.format = "IQ2_S",
     .low_bits = 4,
     .zero_shift = 6,
     .table = CodeTable::kIq2,
     .unit = 0.125f,
     .sub_scale = SubScale::kSigned,
     .sub_blocks = 2,
     .super_blocks = 8},
    {.format = "IQ2_XS",
     .low_bits = 4,
     .zero_shift = 6,
     .table = CodeTable::kIq2,
     .unit = 0.125f,
     .sub_scale = SubScale::kSigned,
     .sub_blocks = 2,
     .super_blocks = 8},
    {.format = "IQ2_XXS",
     .low_bits = 4,
     .zero_shift = 6,
     .table = CodeTable::kIq2,
     .unit = 0.125f,
     .sub_scale = SubScale::kSigned,
     .super_blocks = 8},
    {.format = "IQ3_S",
     .low_bits = 4,
     .zero_shift = 4,
     .table = CodeTable::kIq3S,
     .sub_scale = SubScale::kSigned,
     .super_blocks = 8},
    {.format = "IQ3_XXS",
     .low_bits = 4,
     .zero_shift = 6,
     .table = CodeTable::kIq3Xxs,
     .unit = 0.25f,
     .sub_scale = SubScale::kSigned,
     .super_blocks = 8},
    {.format = "IQ4_NL", .low_bits = 4, .zero_shift = 7, .table = CodeTable::kIq4},
    {.format = "IQ4_XS",
     .low_bits = 4,
     .zero_shift = 7,
     .table = CodeTable::kIq4,
     .sub_scale = SubScale::kSigned,
     .super_blocks = 8},
    {.format = "MXFP4",
     .low_bits = 4,
     .zero_shift = 4,
     .table = CodeTable::kE2M1,
     .super_scale = SuperScale::kPower},
    {.format = "NVFP4",
     .low_bits = 4,
     .zero_shift = 4,
     .table = CodeTable::kE2M1,
     .super_scale = SuperScale::kHalfOfLevel,
     .sub_scale = SubScale::kE4M3,
     .sub_blocks = 2,
     .super_blocks = 2},
    {.format = "Q2_K",
     .low_bits = 2,
     .sub_scale = SubScale::kNibbles,
     .sub_blocks = 2,
     .minimum = true,
     .super_blocks = 8},
    {.format = "Q3_K",
     .low_bits = 2,
     .high_bits = 1,
     .zero_shift = 2,
     .sub_scale = SubScale::kSigned,
     .sub_blocks = 2,
     .super_blocks = 8},
    {.format = "Q4_0", .low_bits = 4, .zero_shift = 3},
    {.format = "Q4_1", .low_bits = 4, .minimum = true},
    {.format = "Q4_K",
     .low_bits = 4,
     .sub_scale = SubScale::kUnsigned,
     .minimum = true,
     .super_blocks = 8},
    {.format = "Q5_0", .low_bits = 4, .high_bits = 1, .zero_shift = 4},
    {.format = "Q5_1", .low_bits = 4, .high_bits = 1, .minimum = true},
    {.format = "Q5_K",
     .low_bits = 4,
     .high_bits = 1,
     .sub_scale = SubScale::kUnsigned,
     .minimum = true,
     .super_blocks = 8},
    {.format = "Q6_K",
     .low_bits = 4,
     .high_bits = 2,
     .zero_shift = 5,
     .sub_scale = SubScale::kSigned,
     .sub_blocks = 2,
     .super_blocks = 8},
    {.format = "Q8_0", .low_bits = 8, .zero_shift = 7},
    {.format = "TQ1_0", .low_bits = 2, .zero_shift = 0, .super_blocks = 8},
    {.format = "TQ2_0", .low_bits = 2, .zero_shift = 0, .super_blocks = 8},
};
constexpr int kBlockLayoutCount =
    static_cast<int>(sizeof(kBlockLayouts) / sizeof(kBlockLayouts[0]));

/// Most columns of one panel: two panels, and the inputs of a tile, stay in the first-level cache
/// while all tokens pass.
constexpr int64_t kPanelValues = 512;
constexpr int64_t kPanelBlocks = kPanelValues / kBlockValues;
constexpr int64_t kPanelCodes = kPanelBlocks * kQuads * kQuadBytes;

/// Codes of 16 rows, a byte each, and what belongs to them. What a code is here is the instruction
/// set's choice.
struct CodePanel {
  alignas(64) uint8_t codes[kPanelCodes];  ///< [block][quad][row][4]
  uint8_t signs[kPanelCodes];              ///< the same; only where codes of 8 bits are magnitudes
  float scales[kPanelBlocks * 2 * 16];     ///< [block][sub-block][row]
  float minimums[kPanelBlocks * 2 * 16];   ///< the same, where the layout has one
  int32_t
      starts[kPanelBlocks * 2 * 16];  ///< the same; what sums of products start from, with signs
};

/// What shares the scale of int8 codes of inputs.
struct CodeScales {
  enum Of : uint8_t {
    kBlock,  ///< 32 values: the least error
    kToken,  ///< all values of a token
    kGiven,  ///< everything: `given`; what is beyond 127 of it is cut off
  };
  Of of = kBlock;
  float given = 0;
};

/// Tokens whose inputs lie side by side where several are multiplied at once: a tile of 3, 4 or 6
/// of them finds all its numbers at constant distances from one address.
constexpr int kSideBySide = 12;

/// Inputs of one product in blocks of 32: value = scale * code, code from -127 to 127. Tokens lie
/// in groups of `side_by_side`, one group after the other: codes [group][columns / 4][token][4],
/// the others [group][columns / 32][token] or [..][columns / 16][token].
struct BlockInputs {
  int8_t* codes;
  float* scales;
  int32_t* less32;       ///< minus the sum of the codes of 32 values
  int32_t* less16;       ///< of 16
  float* scaled_sums32;  ///< the sum of the codes times the scale
  float* scaled_sums16;
  int64_t side_by_side;  ///< 1 or kSideBySide
};

}  // namespace fewbits
