#include "formats/block32.h"
#include "formats/reference_block32.h"
#include "formats/search_blocks.h"

// 32 values, 4 bits each, a half scale and a half minimum; value = d * code + m.
namespace fewbits::q4_1 {
extern const Format format;
namespace {

using Layout = block32::Layout<4, true>;

constexpr search::Narrowing kStarts[] = {{0, 0},         {-0.1f, 0.3f},  {0.25f, -0.2f},
                                         {0.45f, 0.25f}, {0.6f, -0.05f}, {0.4f, 0.75f},
                                         {-0.1f, 0.7f},  {0.2f, -0.8f}};
constexpr search::LineSearch kSearch = {.starts = kStarts, .refinements = 2};

}  // namespace

constinit const Format format = {
    .name = "Q4_1",
    .gguf_type = 3,
    .block_values = block32::kValues,
    .block_bytes = Layout::kBytes,
    .sub_block_values = block32::kValues,
    .levels = kConsecutive<0, 15>,
    .gaussian_error = 4.83e-3,
    .fit_blocks = search::fit_lines<32, 15, kSearch>,
    .grids = Layout::grids,
    .snap = Layout::snap,
    .pack = Layout::pack,
    .unpack = Layout::unpack,
    .encode_reference = reference::encode_row32<format, true>,
};

}  // namespace fewbits::q4_1
