#include "formats/block32.h"
#include "formats/plain_fit.h"
#include "formats/reference_block32.h"

// 32 values, 4 bits each, one half scale; value = d * (code - 8).
namespace fewbits::q4_0 {
extern const Format format;
namespace {

using Layout = block32::Layout<4, false>;

}  // namespace

constinit const Format format = {
    .name = "Q4_0",
    .gguf_type = 2,
    .block_values = block32::kValues,
    .block_bytes = Layout::kBytes,
    .sub_block_values = block32::kValues,
    .levels = kConsecutive<-8, 7>,
    .gaussian_error = 7.39e-3,
    .fit = plain_fit<format, true>,
    .grids = Layout::grids,
    .snap = Layout::snap,
    .pack = Layout::pack,
    .unpack = Layout::unpack,
    .encode_reference = reference::encode_row32<format, false>,
};

}  // namespace fewbits::q4_0
