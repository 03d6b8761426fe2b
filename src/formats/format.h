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
// F32, F16 and BF16 are formats too: blocks of one value, no levels, no parameters.
// Every format is a const value in a file of its own and one line of all.cc; nothing else lists
// them.
namespace fewbits {

inline constexpr int kMaxBlockValues = 256;
inline constexpr int kMaxSubBlocks = 16;

/// What a block stores besides codes, each field exactly as wide as it is stored: nothing is
/// rounded after `fit`.
struct BlockParameters {
  uint16_t scale = 0;                                ///< half bits: d
  uint16_t minimum = 0;                              ///< half bits: m or dmin
  std::array<int8_t, kMaxSubBlocks> sub_scale{};     ///< integer multiples of d
  std::array<uint8_t, kMaxSubBlocks> sub_minimum{};  ///< integer multiples of dmin

  bool operator==(const BlockParameters&) const = default;
};

/// The grid of one sub-block. A scale of 0 means that every value is `offset`.
struct Grid {
  float scale = 0;
  float offset = 0;
};

struct Format {
  std::string_view name;  ///< as users type it and as GGUF tools print it: "Q4_K"
  int32_t gguf_type;      ///< ggml's type id; -1 where GGUF has none
  int32_t block_values;   ///< values in a block; rows are whole blocks
  int32_t block_bytes;
  int32_t sub_block_values;        ///< values that share a grid; divides block_values
  std::span<const int8_t> levels;  ///< level of each code, ascending; empty for the float formats
  /// Relative mean square error on N(0,1) data that the best search does not exceed.
  double gaussian_error;

  /// Best parameters for consecutive blocks under sum weights[i] * error[i]^2. Null weights are all
  /// the same: as long as nothing is known of a layer's input, that is the expected error of its
  /// output. (ggml's weights, which grow with |value|, made no clear difference in divergence.)
  /// Where a block has one grid, four blocks cost hardly more than one.
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

  /// Float formats only (null elsewhere).
  void (*decode_floats)(const std::byte* bytes, int64_t count, float* out) = nullptr;
  void (*encode_floats)(const float* values, int64_t count, std::byte* out) = nullptr;

  /// fit_blocks for one block.
  void fit(const float* values, const float* weights, BlockParameters& parameters) const {
    fit_blocks(values, weights, 1, &parameters);
  }

  bool is_float() const { return levels.empty(); }
  int32_t sub_blocks() const { return block_values / sub_block_values; }
  double bits_per_value() const { return 8.0 * block_bytes / block_values; }
};

/// All formats, sorted by name.
std::span<const Format* const> formats();

/// Null where there is none. Names compare without regard to case.
const Format* find_format(std::string_view name);
const Format* find_format_by_gguf_type(int64_t gguf_type);

/// find_format, or Error that lists the known.
const Format& format_named(std::string_view name);

/// Bytes of a row of `columns` values. REQUIRES: columns is a multiple of block_values.
int64_t row_bytes(const Format& format, int64_t columns);

/// Bit-exact with the reference decoder. REQUIRES: count is a multiple of block_values.
void decode(const Format& format, const std::byte* bytes, int64_t count, float* out);

enum class Search {
  kReference,  ///< the reference implementation's bytes
  kBest,       ///< lowest weighted error this program knows; never above the reference's
};

/// Encodes `rows` rows of `columns` values. `importance`, if not null, has one positive weight for
/// each column (mean square of the layer's input, as llama.cpp's imatrix). The bytes of a row
/// depend on nothing else. REQUIRES: all values finite (NaN and infinity give arbitrary bytes),
/// columns whole blocks.
void encode_rows(const Format& format, const float* values, int64_t rows, int64_t columns,
                 const float* importance, Search search, std::byte* out);

// Codes on a given grid, for whoever picks codes itself. `count` values share the grid.
void round_to_grid(const Format& format, Grid grid, const float* values, int64_t count,
                   uint8_t* codes);
void values_of_codes(const Format& format, Grid grid, const uint8_t* codes, int64_t count,
                     float* values);

}  // namespace fewbits
