#include "formats/reference_k.h"

#include <algorithm>
#include <cmath>

namespace fewbits::reference {
namespace {

using k_blocks::kValues;

struct SuperBlock {
  const float* values;
  std::array<float, kValues> weights;
  std::array<float, kMaxSubBlocks> scales, minimums;
  std::array<uint8_t, kValues> codes;
  BlockParameters parameters;
};

void plain_weights(const Format& format, const WithMinimum& how, SuperBlock& block) {
  const int size = format.sub_block_values;
  for (int s = 0; s < kValues; s += size) {
    const float* x = block.values + s;
    const float square = sum_of_squares(x, size) / static_cast<float>(size);
    const float rms = how.rms_weights ? std::sqrt(square) : 0.0f;
    for (int i = 0; i < size; ++i) block.weights[static_cast<size_t>(s + i)] = rms + std::abs(x[i]);
  }
}

void find_grids(const Format& format, const Tries& tries, bool absolute, SuperBlock& block) {
  const int group = kLanesOf<Float4> * format.sub_block_values;
  const auto search = format.sub_block_values == 32 ? search_asymmetric<32, false>
                      : absolute                    ? search_asymmetric<16, true>
                                                    : search_asymmetric<16, false>;
  for (int i = 0; i < kValues; i += group) {
    const int s = i / format.sub_block_values;
    const FourLines lines =
        search(block.values + i, block.weights.data() + i, tries, block.codes.data() + i);
    std::copy(lines.scales.begin(), lines.scales.end(), block.scales.begin() + s);
    std::copy(lines.minimums.begin(), lines.minimums.end(), block.minimums.begin() + s);
  }
}

/// The greatest gets the limit, the others what is nearest. Returns the unit.
uint16_t round_to_greatest(const std::array<float, kMaxSubBlocks>& wanted, int count, int limit,
                           uint8_t* integers) {
  const auto levels = static_cast<float>(limit);
  const float greatest = std::max(0.0f, *std::max_element(wanted.begin(), wanted.begin() + count));
  const float inverse = greatest > 0 ? levels / greatest : 0.0f;
  for (int s = 0; s < count; ++s) {
    const auto integer =
        static_cast<uint8_t>(nearest_int(inverse * wanted[static_cast<size_t>(s)]));
    integers[s] = static_cast<uint8_t>(std::min<int>(limit, integer));
  }
  return half_from_float(greatest / levels);
}

void store_plain(int count, int limit, SuperBlock& block) {
  std::array<uint8_t, kMaxSubBlocks> integers{};
  block.parameters.scale = round_to_greatest(block.scales, count, limit, integers.data());
  std::copy(integers.begin(), integers.end(), block.parameters.sub_scale.begin());
  block.parameters.minimum =
      round_to_greatest(block.minimums, count, limit, block.parameters.sub_minimum.data());
}

void store_weighted(int count, int limit, SuperBlock& block) {
  std::array<float, kMaxSubBlocks> sums{};
  const int size = kValues / count;
  for (int i = 0; i < kValues; ++i) {
    sums[static_cast<size_t>(i / size)] += block.weights[static_cast<size_t>(i)];
  }
  std::array<uint8_t, kMaxSubBlocks> integers{};
  block.parameters.scale = half_from_float(
      search_positive(block.scales.data(), sums.data(), count, limit, integers.data()));
  std::copy(integers.begin(), integers.end(), block.parameters.sub_scale.begin());
  block.parameters.minimum = half_from_float(search_positive(
      block.minimums.data(), sums.data(), count, limit, block.parameters.sub_minimum.data()));
}

void requantize_all(const Format& format, SuperBlock& block) {
  std::array<Grid, kMaxSubBlocks> grids;
  format.grids(block.parameters, grids.data());
  const int size = format.sub_block_values;
  const auto requantize_one = size == 32 ? requantize<32> : requantize<16>;
  for (int s = 0; s < format.sub_blocks(); ++s) {
    requantize_one(block.values + s * size, grids[static_cast<size_t>(s)], 0,
                   static_cast<int>(format.levels.back()), block.codes.data() + s * size);
  }
}

}  // namespace

void encode_with_minimum(const Format& format, const WithMinimum& how, const float* values,
                         const float* importance, std::byte* out) {
  SuperBlock block;
  block.values = values;
  if (importance) {
    const float spread = how.spread * sum_of_squares(values, kValues) / kValues;
    importance_weights(values, importance, kValues, spread, block.weights.data());
    find_grids(format, how.weighted, false, block);
    store_weighted(format.sub_blocks(), how.scale_limit, block);
  } else {
    plain_weights(format, how, block);
    find_grids(format, how.plain, !how.rms_weights, block);
    store_plain(format.sub_blocks(), how.scale_limit, block);
  }
  requantize_all(format, block);
  format.pack(block.parameters, block.codes.data(), out);
}

}  // namespace fewbits::reference
