#include "formats/iq_levels.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "formats/bit_planes.h"

namespace fewbits::iq {
namespace {

constexpr std::array<int8_t, 16> kIq2 = {-43, -25, -8, 8, 25, 43};
constexpr std::array<int8_t, 16> kIq3Xxs = {-62, -52, -44, -36, -28, -20, -12, -4,
                                            4,   12,  20,  28,  36,  44,  52,  62};
constexpr std::array<int8_t, 16> kIq3S = {-15, -13, -11, -9, -7, -5, -3, -1,
                                          1,   3,   5,   7,  9,  11, 13, 15};

/// Where the four-bit scale codes are: nibble i at `first`, or the top nibble of every `step`
/// bytes.
struct ScalePlace {
  int sub_blocks, first, step;
  float unit;
};

ScalePlace place_of(const Format& format) {
  if (format.name == "IQ2_XXS") return {8, 2 + 7, 8, 0.125f};
  if (format.name == "IQ2_XS") return {16, 66, 0, 0.125f};
  if (format.name == "IQ2_S") return {16, 74, 0, 0.125f};
  if (format.name == "IQ3_XXS") return {8, 66 + 3, 4, 0.25f};
  check(format.name == "IQ3_S");
  return {8, 106, 0, 1};
}

int scale_code(const ScalePlace& place, const uint8_t* block, int sub) {
  if (place.step > 0) return block[place.first + sub * place.step] >> 4;
  return block[place.first + sub / 2] >> (sub % 2 * 4) & 15;
}

}  // namespace

const std::array<int8_t, 16>& signed_levels(const Format& format) {
  if (format.name == "IQ3_S") return kIq3S;
  return format.name == "IQ3_XXS" ? kIq3Xxs : kIq2;
}

/// The decoder does the work: with 1 for d its values are products of small integers, exactly.
void level_codes(const Format& format, const std::byte* block, BlockParameters& parameters,
                 uint8_t* codes) {
  constexpr uint16_t kOne = 0x3c00;
  constexpr size_t kMostBytes = 128;
  const ScalePlace place = place_of(format);
  std::array<std::byte, kMostBytes> copy;
  check(static_cast<size_t>(format.block_bytes) <= copy.size());
  std::copy_n(block, format.block_bytes, copy.begin());
  store_half(kOne, copy.data());
  std::array<float, kMaxBlockValues> values;
  format.decode_floats(copy.data(), kMaxBlockValues, values.data());

  std::array<uint8_t, 128> code_of_level{};  // of the level + 64
  const auto& levels = signed_levels(format);
  for (size_t i = 0; i < levels.size(); ++i) {
    if (levels[i] != 0)
      code_of_level[static_cast<size_t>(levels[i] + 64)] = static_cast<uint8_t>(i);
  }
  parameters.scale = load_half(block);
  const int size = kMaxBlockValues / place.sub_blocks;
  for (int sub = 0; sub < place.sub_blocks; ++sub) {
    const int odd = 2 * scale_code(place, as_bytes(block), sub) + 1;
    parameters.sub_scale[static_cast<size_t>(sub)] = static_cast<int8_t>(odd);
    const float scale = place.unit * static_cast<float>(odd);
    for (int i = sub * size; i < (sub + 1) * size; ++i) {
      const int level = static_cast<int>(values[static_cast<size_t>(i)] / scale);
      codes[i] = code_of_level[static_cast<size_t>(level + 64)];
    }
  }
}

}  // namespace fewbits::iq
