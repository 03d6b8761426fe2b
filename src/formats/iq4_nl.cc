#include "formats/block32.h"
#include "formats/iq4_levels.h"
#include "formats/plain_fit.h"

// 32 values, 4 bits each, one half scale; value = d * level. The levels lie denser near zero, where
// weights do.
namespace fewbits::iq4_nl {
extern const Format format;
namespace {

using Layout = block32::Layout<4, false>;

}  // namespace

constinit const Format format = {
    .name = "IQ4_NL",
    .gguf_type = 20,
    .block_values = block32::kValues,
    .block_bytes = Layout::kBytes,
    .sub_block_values = block32::kValues,
    .levels = kIq4Levels,
    .gaussian_error = 5.81e-3,
    .fit = plain_fit<format, true>,
    .grids = Layout::grids,
    .snap = Layout::snap,
    .pack = Layout::pack,
    .unpack = Layout::unpack,
};

}  // namespace fewbits::iq4_nl
