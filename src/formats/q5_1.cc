#include "formats/block32.h"
#include "formats/reference_block32.h"
#include "formats/search_blocks.h"

// 32 values, 5 bits each, a half scale and a half minimum; value = d * code + m.
namespace fewbits::q5_1 {
extern const Format format;
namespace {

using Layout = block32::Layout<5, true>;

constexpr search::Narrowing kStarts[] = {{0, 0},          {0, -0.2f},    {-0.2f, 0.2f},
                                         {0, -0.85f},     {0.45f, 0.2f}, {-0.05f, 0.55f},
                                         {-0.8f, -0.15f}, {0.5f, -0.2f}};
constexpr search::LineSearch kSearch = {.starts = kStarts, .refinements = 2};

}  // namespace

constinit const Format format = {
    .name = "Q5_1",
    .gguf_type = 7,
    .block_values = block32::kValues,
    .block_bytes = Layout::kBytes,
    .sub_block_values = block32::kValues,
    .levels = kConsecutive<0, 31>,
    .gaussian_error = 1.127e-3,
    .fit_blocks = search::fit_lines<32, 31, kSearch>,
    .grids = Layout::grids,
    .snap = Layout::snap,
    .pack = Layout::pack,
    .unpack = Layout::unpack,
    .encode_reference = reference::encode_row32<format, true>,
};

}  // namespace fewbits::q5_1
