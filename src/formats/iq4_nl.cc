#include <algorithm>
#include <array>

#include "formats/block32.h"
#include "formats/iq4_levels.h"
#include "formats/reference.h"
#include "formats/reference_iq4.h"
#include "formats/search_blocks.h"

// 32 values, 4 bits each, one half scale; value = d * level. The levels lie denser near zero, where
// weights do.
namespace fewbits::iq4_nl {
extern const Format format;
namespace {

using Layout = block32::Layout<4, false>;

struct FourBlocks {
  std::array<float, kLanesOf<Float4> * block32::kValues> values, weights;
  std::array<float, kLanesOf<Float4>> scales;
};

FourBlocks load_four(const float* row, const float* importance, int64_t count) {
  FourBlocks four{};  // blocks beyond the row are zero
  std::copy_n(row, count, four.values.begin());
  for (int64_t i = 0; i < count; i += block32::kValues) {
    const float spread = reference::sum_of_squares(row + i, block32::kValues) * (2.0f / 32);
    reference::iq4_weights(row + i, importance ? importance + i : nullptr, block32::kValues, spread,
                           four.weights.data() + i);
  }
  return four;
}

void encode_reference(const float* row, int64_t columns, const float* importance, std::byte* out) {
  std::array<uint8_t, block32::kValues> codes;
  for (int64_t i = 0; i < columns; i += kLanesOf<Float4> * block32::kValues) {
    const int64_t count = std::min<int64_t>(columns - i, kLanesOf<Float4> * block32::kValues);
    FourBlocks four = load_four(row + i, importance ? importance + i : nullptr, count);
    reference::search_iq4(four.values.data(), four.weights.data(), four.scales.data());
    for (int64_t b = 0; b < count / block32::kValues; ++b, out += format.block_bytes) {
      const float scale = four.scales[static_cast<size_t>(b)];
      reference::iq4_codes(row + i + b * block32::kValues, scale != 0 ? 1 / scale : 0.0f,
                           codes.data());
      Layout::pack({.scale = half_from_float(scale)}, codes.data(), out);
    }
  }
}

constexpr float kStarts[] = {-137, -130, -123, -107.5f, 125, 118.7f, 113.5f, 108.4f};
constexpr search::ScaleSearch kSearch = {.starts = kStarts, .refinements = 2};

}  // namespace

constinit const Format format = {
    .name = "IQ4_NL",
    .gguf_type = 20,
    .block_values = block32::kValues,
    .block_bytes = Layout::kBytes,
    .sub_block_values = block32::kValues,
    .levels = kIq4FloatLevels,
    .gaussian_error = 5.43e-3,
    .bounds = kIq4Bounds,
    .ascending = kInOrder<16>,
    .fit_blocks = search::fit_scale<32, Iq4Rounding, kSearch>,
    .grids = Layout::grids,
    .snap = Layout::snap,
    .pack = Layout::pack,
    .unpack = Layout::unpack,
    .encode_reference = encode_reference,
};

}  // namespace fewbits::iq4_nl
