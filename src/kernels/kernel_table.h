#pragma once

#include <cstdint>

#include "kernels/block_layout.h"
#include "kernels/kv_layout.h"

// The functions that differ from one instruction set to the next. One text (kernels.inl) is
// compiled once per set with that set's shim and flags; a table of pointers is what each object
// file exports, and nothing else. This header is part of that text, so it includes nothing that
// could leave a weak symbol behind.
namespace fewbits {

/// Rows of a weight matrix that are laid out side by side: value k of 16 rows, then value k + 1 (or
/// the next four).
inline constexpr int kGroupRows = 16;

/// Of a tile of inputs: tokens, columns of bfloats and of int8, and its size.
inline constexpr int64_t kTileTokens = 16;
inline constexpr int64_t kTileColumns = 32;
inline constexpr int64_t kTileCodes = 64;
inline constexpr int64_t kTileBytes = 1024;
/// Of a tile of results: 16 tokens by 16 rows.
inline constexpr int64_t kTileSums = kTileTokens * kGroupRows;

/// Where the keys of a long context are cut.
inline constexpr int64_t kKeysPerPart = 512;

/// What parts of one query's keys are joined by.
struct AttentionPart {
  float highest;  ///< score; very low where the part has no key that the query sees
  float total;    ///< of the weights exp(score - highest)
};

/// Keys and values of one head as IEEE halves, of the tokens [first, first + count).
struct HalfKeys {
  const uint16_t* keys;    ///< [count / 16][head_dim][16], whole groups of 16 keys
  const uint16_t* values;  ///< [count][value_dim]
  int64_t first = 0;
  int64_t count = INT64_MAX;  ///< more than any query sees: all that it sees
};

/// The same as chunks of codes. Tokens that fill no chunk are not among them.
struct CodedKeys {
  KvChunkLayout key_layout, value_layout;
  const uint8_t* keys;
  const uint8_t* values;
  int64_t first;
  int64_t count;
  const float* bias;  ///< [query_count], added to the scores; may be null
};

struct TileKernels;

/// Attention of a few queries of one key/value head over cached keys and values by online softmax.
/// Query i sees the last `window` of the first visible[i] tokens (>= 1). The tokens lie in three
/// places, each of which may be empty.
struct AttentionTask {
  const float* queries;  ///< [query_count][query_stride], already scaled by the softmax scale
  int64_t query_stride;  ///< at least head_dim and what the coded keys decode to
  HalfKeys recent;
  const HalfKeys* oldest = nullptr;  ///< null: none
  const CodedKeys* coded = nullptr;  ///< null: none
  const int64_t* visible;            ///< [query_count]
  int64_t query_count;
  int64_t head_dim;   ///< of queries and keys
  int64_t value_dim;  ///< of values and results
  float* out;         ///< [query_count][value_dim]
  float* scratch;     ///< attention_scratch_floats
  int64_t window = INT64_MAX;
  float cap = 0;                       ///< scores become cap * tanh(score / cap); 0: they stay
  const TileKernels* tiles = nullptr;  ///< for many queries; the table's `attend` gives its own

  // For a part of the keys, to be joined with others: tiles of keys that begin in [begin, end).
  int64_t begin = 0, end = INT64_MAX;
  AttentionPart* partial = nullptr;  ///< [query_count]; not null: `out` is not divided by total
};

/// One row of a layer norm.
struct NormTask {
  const float* x;
  const float* gain;
  const float* bias;  ///< may be null
  float epsilon;
  int64_t count;
  float* out;
};

/// The upper half of a float.
struct BFloat {
  uint16_t bits;
};

/// out[t][16 p + r] (+)= sum over k of inputs[t][k] * panel p [k][r], for the 16 rows of each
/// panel, k in rising order. Value: float, uint16_t (IEEE halves) or BFloat, with the same results
/// for the same numbers.
template <class Value>
struct PanelTask {
  const float* inputs;
  int64_t input_stride;
  int64_t tokens;
  const Value* panel;  ///< [depth][16]
  int64_t panel_stride;
  int64_t panels;
  int64_t depth;
  float* out;
  int64_t out_stride;
  bool accumulate;
};

/// One token, or a few side by side, times one or two groups, straight from the packed blocks.
struct BlockDotTask {
  const uint8_t* group;
  int64_t group_stride;  ///< bytes of a group, behind which the next one lies
  int64_t groups;
  int64_t blocks;  ///< of 32 columns
  BlockInputs inputs;
  const int32_t* starts;  ///< as in BlockPanelTask
  float* out;             ///< [16] of each group
  int64_t tokens = 1;
  int64_t out_stride = 0;  ///< to those of the next token
};

/// Memory that will be read next: asked for while there is other work to do.
struct Ahead {
  const uint8_t* bytes;  ///< of the first panel; null: nothing
  int64_t stride;        ///< to those of the next panel
  int64_t per_block;     ///< how many to ask for with each block
};

/// out[t][16 p + r] = before[t][16 p + r] + the sum over the blocks of panel p, in rising order.
struct BlockPanelTask {
  const CodePanel* panel;
  int64_t panels;
  int64_t blocks;         ///< in each panel
  BlockInputs inputs;     ///< of the first token at the panels' first block
  const int32_t* starts;  ///< of the layout's sub-blocks, see start_sums, from the same block on;
                          ///< null where its codes have no zero point
  int64_t columns;        ///< of a row of inputs
  int64_t tokens;
  const float* before;  ///< sums over the blocks before these; null: there are none
  int64_t before_stride;
  float* out;  ///< may be where `before` is
  int64_t out_stride;
  Ahead ahead = {};
};

/// Two panels times all tokens by way of tiles, squares of 16 x 16 sums. A step is a tile of inputs
/// times a tile of each panel, kTileBytes each:
///
///   bfloats, sums are floats    16 tokens [32 columns]   16 pairs of columns [16 rows][2]
///   int8, sums are int32        16 tokens [64 columns]   16 quads of columns [16 rows][4]
struct TileTask {
  const uint8_t* inputs;  ///< [step] of the first 16 tokens
  int64_t input_stride;   ///< to those of the next 16 tokens
  int64_t token_tiles;
  const uint8_t* panels[2];  ///< [step]
  int64_t steps;
  float* out;  ///< [token tile][panel][16 tokens][16 rows]; or the bits of integers
  bool accumulate;

  /// Where inputs and panels are in parts: which of them are multiplied, as bytes behind the first.
  struct Term {
    int64_t inputs, panels;
  };
  static constexpr int kMostTerms = 5;
  Term terms[kMostTerms] = {};
  int term_count = 1;
};

/// Values as bfloats: the first part is rounded, each further one what rounding left so far.
struct TileParts {
  uint16_t* first;
  int64_t stride;  ///< from part to part, in bfloats
  int count;       ///< at most three
};

/// What an instruction set with a unit for matrices has besides.
struct TileKernels {
  /// Rows [token][columns] of up to 16 tokens as one row of input tiles, in bfloats or as the codes
  /// they are. Tokens that are missing become zeros.
  void (*tile_inputs)(const float* in, int64_t tokens, int64_t columns, const TileParts& out);
  void (*tile_codes)(const int8_t* in, int64_t tokens, int64_t columns, int8_t* out);
  /// Weights [depth][16] as a panel of bfloats.
  void (*tile_weights)(const float* in, int64_t depth, const TileParts& out);
  /// Blocks [first, first + count) of a group as a panel of bfloats; and as one of int8, null for
  /// layouts with scales in their blocks.
  void (*unpack[kBlockLayoutCount])(const uint8_t* group, int64_t first, int64_t count,
                                    uint16_t* panel);
  void (*unpack_codes[kBlockLayoutCount])(const uint8_t* group, int64_t first, int64_t count,
                                          int8_t* panel);
  void (*multiply_bfloats)(const TileTask& task);
  void (*multiply_codes)(const TileTask& task);
  /// As KernelTable::probe_fma, of products of bfloats.
  double (*probe)(int64_t rounds, float* sink);
};

struct KernelTable {
  const char* name;  ///< "scalar", "avx2", "avx512", ...

  void (*halves_to_floats)(const uint16_t* in, int64_t count, float* out);
  void (*floats_to_halves)(const float* in, int64_t count, uint16_t* out);
  void (*bfloats_to_floats)(const uint16_t* in, int64_t count, float* out);
  float (*dot)(const float* a, const float* b, int64_t count);
  /// out = x * gain / sqrt(mean(x^2) + epsilon); out may be x.
  void (*rms_norm)(const float* x, const float* gain, float epsilon, int64_t count, float* out);
  /// out = (x - mean) * gain / sqrt(variance + epsilon) + bias; `bias` may be null, out may be x.
  void (*layer_norm)(const NormTask& task);
  /// x = exp(x - max) / sum, in place.
  void (*softmax)(float* x, int64_t count);
  /// out = silu(gate) * up; out may be either input.
  void (*silu_multiply)(const float* gate, const float* up, int64_t count, float* out);
  /// x = x Phi(x), with the normal distribution's Phi, in place; and the approximation by tanh.
  void (*gelu)(float* x, int64_t count);
  void (*gelu_tanh)(float* x, int64_t count);
  void (*silu)(float* x, int64_t count);
  void (*relu)(float* x, int64_t count);
  /// x = cap * tanh(x / cap), in place.
  void (*soft_cap)(float* x, float cap, int64_t count);
  /// a *= b
  void (*multiply)(float* a, const float* b, int64_t count);
  /// a += scale * b
  void (*add_scaled)(float* a, const float* b, float scale, int64_t count);
  /// a += b
  void (*add)(float* a, const float* b, int64_t count);
  /// Rotates pairs (x[i], x[i + count/2]) by the angles whose cosines and sines are given
  /// ([count/2] each).
  void (*rope_halves)(float* x, const float* cosines, const float* sines, int64_t count);
  void (*attend)(const AttentionTask& task);
  /// A chunk of keys: both groups of 16 as [parts][width][16], `group_stride` floats apart.
  void (*decode_keys)(const KvChunkLayout& layout, const uint8_t* chunk, float* out,
                      int64_t group_stride);
  /// The first `dims` dimensions of a chunk of values, a multiple of 16. REQUIRES: one part.
  void (*decode_values)(const KvChunkLayout& layout, const uint8_t* chunk, int64_t dims,
                        const KvStrips& out);

  // What matmul.cc is made of; nobody else calls these.

  /// So many tokens pass through panels of floats at once, which may as well convert halves.
  int64_t float_tile_tokens;
  void (*float_panel)(const PanelTask<float>& task);
  void (*half_panel)(const PanelTask<uint16_t>& task);
  void (*bfloat_panel)(const PanelTask<BFloat>& task);
  /// Rows [tokens][stride] of at most kSideBySide tokens as [columns][kSideBySide]; tokens that are
  /// missing become zeros.
  void (*lay_side_by_side)(const float* in, int64_t stride, int64_t tokens, int64_t columns,
                           float* out);
  /// The same as float_panel, of one or two panels, for inputs side by side: input_stride leads to
  /// the next kSideBySide tokens.
  void (*float_strip)(const PanelTask<float>& task);
  void (*quantize_inputs)(const float* in, int64_t columns, const CodeScales& scales,
                          const BlockInputs& out);
  /// What sums of products start from that is not worth adding block by block: with `less` as in
  /// BlockInputs, what codes have too much by their zero point, and what else the kernels want.
  void (*start_sums)(const int32_t* less, int64_t count, int zero_shift, int32_t* out);
  struct BlockKernels {
    void (*dot)(const BlockDotTask& task);
    void (*dots)(const BlockDotTask& task);  ///< of at most dot_tokens tokens; null where that is 1
    /// Blocks [first, first + count) of a group, count <= kPanelBlocks.
    void (*unpack)(const uint8_t* group, int64_t first, int64_t count, CodePanel& panel);
    void (*multiply)(const BlockPanelTask& task);
  };
  BlockKernels blocks[kBlockLayoutCount];  ///< in the order of kBlockLayouts
  int64_t dot_tokens;

  // Limits of this machine, for benchmarks. The first two return the operations they did; `sink`
  // gets a meaningless number.
  double (*probe_fma)(int64_t rounds, float* sink);
  double (*probe_int8)(int64_t rounds, float* sink);
  void (*probe_read)(const uint8_t* data, int64_t bytes,
                     float* sink);  ///< bytes: a multiple of 512

  const TileKernels* tiles = nullptr;  ///< null where there is no such unit
};

/// `depth`: the larger of head_dim and what coded keys decode to.
int64_t attention_scratch_floats(int64_t query_count, int64_t depth, int64_t value_dim);

/// The best table this processor runs, chosen once, or the one that FEWBITS_ISA names (Error where
/// this processor lacks it or the name is unknown).
const KernelTable& kernels();

/// A table built in, and whether this processor runs it.
struct KernelCandidate {
  const KernelTable* table;
  bool usable;
};

/// Best first.
struct KernelCandidates {
  const KernelCandidate* first;
  int count;
  const KernelCandidate* begin() const { return first; }
  const KernelCandidate* end() const { return first + count; }
};
KernelCandidates kernel_candidates();

}  // namespace fewbits
