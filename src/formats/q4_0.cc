#include "formats/block32.h"
#include "formats/reference_block32.h"
#include "formats/search_blocks.h"

// 32 values, 4 bits each, one half scale; value = d * (code - 8).
namespace fewbits::q4_0 {
extern const Format format;
namespace {

using Layout = block32::Layout<4, false>;

constexpr float kStarts[] = {-9.0f, -8.6f, -8.3f, -8.0f, -7.7f, 7.3f, 6.9f};
constexpr search::ScaleSearch kSearch = {.starts = kStarts, .refinements = 2};

}  // namespace

constinit const Format format = {
    .name = "Q4_0",
    .gguf_type = 2,
    .block_values = block32::kValues,
    .block_bytes = Layout::kBytes,
    .sub_block_values = block32::kValues,
    .levels = kConsecutive<-8, 7>,
    .gaussian_error = 6.63e-3,
    .fit_blocks = search::fit_scale<32, search::UniformRounding<-8, 7>, kSearch>,
    .grids = Layout::grids,
    .snap = Layout::snap,
    .pack = Layout::pack,
    .unpack = Layout::unpack,
    .encode_reference = reference::encode_row32<format, false>,
};

}  // namespace fewbits::q4_0
