#include <algorithm>

#include "formats/format.h"
#include "formats/levels.h"
#include "formats/packed_codes.h"
#include "formats/search_blocks.h"

// NF4 (Dettmers et al. 2023, arXiv 2305.14314): quantiles of the normal distribution between -1 and
// 1, with an exact zero.
//
//     64 values:  [ half scale | 32 bytes of codes, lowest bits first ]
//
// The paper's scale is the largest magnitude; the search here also shrinks and turns it.
namespace fewbits::nf4 {
extern const Format format;
namespace {

constexpr int kValues = 64;

constexpr std::array<float, 16> kLevels = {
    -1.0f,         -0.6961928009986877f,  -0.5250730514526367f,  -0.39491748809814453f,
    -0.28444138f,  -0.18477343022823334f, -0.09105003625154495f, 0.0f,
    0.0795802995f, 0.16093020141124725f,  0.24611230194568634f,  0.33791524171829224f,
    0.4407098293f, 0.5626170039176941f,   0.7229568362236023f,   1.0f};
constexpr auto kBounds = half_way(kLevels);

struct Rounding {
  template <class Lanes>
  static Lanes levels(Lanes value) {
    Lanes level = splat<Lanes>(kLevels[0]);
    for (size_t i = 0; i < kBounds.size(); ++i) {
      level = value > kBounds[i] ? splat<Lanes>(kLevels[i + 1]) : level;
    }
    return level;
  }
};

void grids(const BlockParameters& parameters, Grid* grids) {
  grids[0] = {half_to_float(parameters.scale), kNoOffset};
}

void snap(const Grid* wanted, BlockParameters& parameters) {
  parameters.scale = finite_half(wanted[0].scale);
}

void pack(const BlockParameters& parameters, const uint8_t* codes, std::byte* block) {
  store_half(parameters.scale, block);
  pack_codes<4, kValues>(codes, block + 2);
}

void unpack(const std::byte* block, BlockParameters& parameters, uint8_t* codes) {
  parameters.scale = load_half(block);
  unpack_codes<4, kValues>(block + 2, codes);
}

constexpr float kStarts[] = {-1.0f, 1.0f, -1.08f, 1.08f, -1.2f, 1.2f, -0.95f, 0.95f};
constexpr search::ScaleSearch kSearch = {.starts = kStarts, .refinements = 2};

}  // namespace

constinit const Format format = {
    .name = "nf4",
    .gguf_type = -1,
    .block_values = kValues,
    .block_bytes = 2 + kValues / 2,
    .sub_block_values = kValues,
    .levels = kLevels,
    .gaussian_error = 6.89e-3,
    .bounds = kBounds,
    .ascending = kInOrder<16>,
    .fit_blocks = search::fit_scale<kValues, Rounding, kSearch>,
    .grids = grids,
    .snap = snap,
    .pack = pack,
    .unpack = unpack,
};

}  // namespace fewbits::nf4
