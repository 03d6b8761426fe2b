#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

// A number format: how a row of floats becomes codes and parameters, and how both lie in bytes.
//
// The numerics stand apart from the bytes, so that a method such as GPTQ can freeze the parameters
// that `fit` gives and pick the codes itself, in every format alike. Each block holds
// `block_values` consecutive values of one row, split into sub-blocks of `sub_block_values` that
// share a grid:
//
//     value = grid.scale * levels[code] + grid.offset
//
// F32, F16 and BF16 are formats too: blocks of one value, no levels, no parameters. Formats whose
// codes are vectors have no levels either; they encode and decode whole rows.
// Every format is a const value in a file of its own and one line of all.cc; nothing else lists
// them.
namespace fewbits {

inline constexpr int kMaxBlockValues = 256;
inline constexpr int kMaxSubBlocks = 16;

/// What shares the outer parameters, those that stand before the blocks of a row.
enum class Sharing {
  kBlock,   ///< there are none
  kRow,     ///< one output channel of a matrix
  kTensor,  ///< all rows, with the same bytes before each
};

struct Outer {
  float scale = 1;
  float zero = 0;  ///< the integer level that stands for 0; only where outer_bytes is 8

  bool operator==(const Outer&) const = default;
};

/// What a block stores besides codes, each field exactly as wide as it is stored: nothing is
/// rounded after `fit`.
struct BlockParameters {
  uint16_t scale = 0;    ///< bits of d: a half, or an exponent (E8M0)
  uint16_t minimum = 0;  ///< half bits: m or dmin
  /// Integer multiples of d, or bits of a small float (E4M3).
  std::array<int8_t, kMaxSubBlocks> sub_scale{};
  /// Integer multiples of dmin, or zero points.
  std::array<uint8_t, kMaxSubBlocks> sub_minimum{};
  Outer outer = {};  ///< of the row; given to fit_blocks, snap and unpack, changed by none

  bool operator==(const BlockParameters&) const = default;
};

/// The grid of one sub-block. A scale of 0 means that every value is `offset`.
struct Grid {
  float scale = 0;
  float offset = 0;
};

/// What a tensor's outer parameters are made from.
struct TensorRange {
  float low = 0;   ///< the least value, 0 where none is negative
  float high = 0;  ///< the greatest, 0 where none is positive
  double sum_magnitudes = 0;
  int64_t count = 0;

  void add(const float* values, int64_t values_count);
  void add(const TensorRange& other);
};

struct Format {
  std::string_view name;  ///< as users type it and as GGUF tools print it: "Q4_K"
  int32_t gguf_type;      ///< ggml's type id; -1 where GGUF has none
  int32_t block_values;   ///< values in a block; rows are whole blocks
  int32_t block_bytes;
  int32_t sub_block_values;  ///< values that share a grid; divides block_values
  /// Level of each code; NaN or infinite where a code stands for no number. Consecutive integers
  /// where `bounds` is empty. Empty itself for floats and vector codes.
  std::span<const float> levels;
  /// Relative mean square error on N(0,1) data that the best search does not exceed.
  double gaussian_error;

  // Only where the levels are no consecutive integers. bounds[i], ascending: above it the code
  // ascending[i + 1] is nearer than ascending[i], at it or below it is not. Ties have been decided
  // by making the bound a little smaller.
  std::span<const float> bounds = {};
  std::span<const uint8_t> ascending = {};
  uint8_t lowest_code = 0;  ///< integers only: codes below are never given (narrow range)

  Sharing sharing = Sharing::kBlock;
  int32_t outer_bytes = 0;  ///< 4: a float scale before the blocks of a row; 8: and a float zero
  /// False where several bit patterns stand for one block: unpack then undoes pack, but not the
  /// reverse.
  bool one_pattern = true;
  /// True where so few bits are no use without importance weights; as stock llama.cpp has it.
  bool needs_importance = false;

  /// Outer parameters of a row (Sharing::kRow) under the same error as fit_blocks.
  void (*fit_row)(const float* values, const float* weights, int64_t columns,
                  Outer& outer) = nullptr;
  /// Outer parameters of a tensor (Sharing::kTensor).
  void (*fit_tensor)(const TensorRange& range, Outer& outer) = nullptr;

  /// Best parameters for consecutive blocks under sum weights[i] * error[i]^2. Null weights are all
  /// the same: as long as nothing is known of a layer's input, that is the expected error of its
  /// output. (ggml's weights, which grow with |value|, made no clear difference in divergence.)
  /// Where a block has one grid, eight blocks cost hardly more than one.
  void (*fit_blocks)(const float* values, const float* weights, int64_t blocks,
                     BlockParameters* parameters) = nullptr;

  /// One grid for each sub-block of the stored parameters.
  void (*grids)(const BlockParameters& parameters, Grid* grids) = nullptr;

  /// The parameters nearest to wanted grids that can be stored.
  void (*snap)(const Grid* wanted, BlockParameters& parameters) = nullptr;

  void (*pack)(const BlockParameters& parameters, const uint8_t* codes, std::byte* block) = nullptr;
  void (*unpack)(const std::byte* block, BlockParameters& parameters, uint8_t* codes) = nullptr;

  /// ggml's encoder as compiled with its default flags (no fused operations), byte for byte, for a
  /// whole row; `importance` as in `encode_rows`. Null where there is none.
  void (*encode_reference)(const float* row, int64_t columns, const float* importance,
                           std::byte* out) = nullptr;

  /// Formats without levels only: floats, and those whose codes are vectors. Where encode_floats
  /// is null too, a format can be read and not written.
  void (*decode_floats)(const std::byte* bytes, int64_t count, float* out) = nullptr;
  void (*encode_floats)(const float* values, int64_t count, std::byte* out) = nullptr;
  /// Vector codes: a whole row under the error of fit_blocks.
  void (*encode_vectors)(const float* row, int64_t columns, const float* importance,
                         std::byte* out) = nullptr;

  /// fit_blocks for one block.
  void fit(const float* values, const float* weights, BlockParameters& parameters) const {
    fit_blocks(values, weights, 1, &parameters);
  }

  bool is_float() const { return levels.empty() && block_values == 1; }
  /// Whether each code stands for a value of its own, so that a method can pick it.
  bool has_levels() const { return !levels.empty(); }
  bool can_encode() const { return has_levels() || encode_floats || encode_vectors; }
  int32_t sub_blocks() const { return block_values / sub_block_values; }
  /// Without outer parameters.
  double bits_per_value() const { return 8.0 * block_bytes / block_values; }
};

/// All formats, sorted by name without regard to case.
std::span<const Format* const> formats();

/// Null where there is none. Names compare without regard to case.
const Format* find_format(std::string_view name);
const Format* find_format_by_gguf_type(int64_t gguf_type);

/// find_format, or Error that lists the known.
const Format& format_named(std::string_view name);

/// Bytes of a row of `columns` values, outer parameters included. REQUIRES: columns is a multiple
/// of block_values.
int64_t row_bytes(const Format& format, int64_t columns);

/// Decodes one row, or any number of rows where the format has no outer parameters. Bit-exact with
/// the reference decoder. REQUIRES: count is a multiple of block_values.
void decode(const Format& format, const std::byte* bytes, int64_t count, float* out);

/// Decodes `rows` rows of `columns` values of any format.
void decode_rows(const Format& format, const std::byte* bytes, int64_t rows, int64_t columns,
                 float* out);

enum class Search {
  kReference,  ///< the reference implementation's bytes
  kBest,       ///< lowest weighted error this program knows; of a whole tensor
               ///< below the reference's
  kRobust,     ///< from there to a low sum of |error|^0.7 (search_robust.h), importance forgotten
};

/// Encodes `rows` rows of `columns` values. `importance`, if not null, has one positive weight for
/// each column (mean square of the layer's input, as llama.cpp's imatrix). The bytes of a row
/// depend on nothing else, but on `outer` where a tensor shares parameters: these, or, where it is
/// null, those of the given rows. REQUIRES: all values finite (NaN and infinity give arbitrary
/// bytes), columns whole blocks.
void encode_rows(const Format& format, const float* values, int64_t rows, int64_t columns,
                 const float* importance, Search search, std::byte* out,
                 const Outer* outer = nullptr);

/// The outer parameters of a row; `tensor` where its tensor shares them, nothing where there are
/// none.
Outer outer_of_row(const Format& format, const float* values, const float* weights, int64_t columns,
                   const Outer* tensor);

/// The bytes of a row from the parameters of its blocks and its codes.
void pack_row(const Format& format, const BlockParameters* parameters, const uint8_t* codes,
              int64_t columns, std::byte* out);

/// Code of the level nearest to `level`; of the lowest for NaN.
uint8_t nearest_code(const Format& format, float level);

// Codes on a given grid, for whoever picks codes itself. `count` values share the grid.
void round_to_grid(const Format& format, Grid grid, const float* values, int64_t count,
                   uint8_t* codes);
void values_of_codes(const Format& format, Grid grid, const uint8_t* codes, int64_t count,
                     float* values);

}  // namespace fewbits
