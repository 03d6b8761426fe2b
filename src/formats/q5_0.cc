#include "formats/block32.h"
#include "formats/reference_block32.h"
#include "formats/search_blocks.h"

// 32 values, 5 bits each, one half scale; value = d * (code - 16).
namespace fewbits::q5_0 {
extern const Format format;
namespace {

using Layout = block32::Layout<5, false>;

constexpr float kStarts[] = {-16.7f, -16.3f, -16.0f, -15.7f, -14.8f, 15.2f, 14.1f, 13.0f};
constexpr search::ScaleSearch kSearch = {.starts = kStarts, .refinements = 2};

}  // namespace

constinit const Format format = {
    .name = "Q5_0",
    .gguf_type = 6,
    .block_values = block32::kValues,
    .block_bytes = Layout::kBytes,
    .sub_block_values = block32::kValues,
    .levels = kConsecutive<-16, 15>,
    .gaussian_error = 1.617e-3,
    .fit_blocks = search::fit_scale<32, search::UniformRounding<-16, 15>, kSearch>,
    .grids = Layout::grids,
    .snap = Layout::snap,
    .pack = Layout::pack,
    .unpack = Layout::unpack,
    .encode_reference = reference::encode_row32<format, false>,
};

}  // namespace fewbits::q5_0
