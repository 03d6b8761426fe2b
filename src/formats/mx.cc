#include "formats/mx.h"

#include "formats/packed_codes.h"
#include "formats/small_floats.h"

// MXFP8, MXFP6 and MXINT8 (MXFP4 has a block of its own in GGUF: mxfp4.cc).
//
//     [ e | 32 codes, lowest bits first ]
namespace fewbits::mx {
namespace {

template <int kBits>
void pack(const BlockParameters& parameters, const uint8_t* codes, std::byte* block) {
  block[0] = static_cast<std::byte>(parameters.scale);
  pack_codes<kBits, kValues>(codes, block + 1);
}

template <int kBits>
void unpack(const std::byte* block, BlockParameters& parameters, uint8_t* codes) {
  parameters.scale = std::to_integer<uint8_t>(block[0]);
  unpack_codes<kBits, kValues>(block + 1, codes);
}

template <class Float, int kExponent>
constexpr Format floats(std::string_view name, double gaussian_error) {
  constexpr int kBits = std::bit_width(static_cast<unsigned>(Float::kCodes - 1));
  return {
      .name = name,
      .gguf_type = -1,
      .block_values = kValues,
      .block_bytes = 1 + kValues * kBits / 8,
      .sub_block_values = kValues,
      .levels = Float::kLevels,
      .gaussian_error = gaussian_error,
      .bounds = Float::kBounds,
      .ascending = Float::kAscending,
      .fit_blocks = fit<typename Float::Rounding, kExponent, 0>,
      .grids = grids<0>,
      .snap = snap<0>,
      .pack = pack<kBits>,
      .unpack = unpack<kBits>,
  };
}

// Elements are q / 64, so that the largest is just below 2. -128 is left out, as the standard
// advises.
constexpr int kIntShift = 6;

constexpr Format integers(std::string_view name, double gaussian_error) {
  return {
      .name = name,
      .gguf_type = -1,
      .block_values = kValues,
      .block_bytes = 1 + kValues,
      .sub_block_values = kValues,
      .levels = kConsecutive<-128, 127>,
      .gaussian_error = gaussian_error,
      .lowest_code = 1,
      .fit_blocks = fit<search::UniformRounding<-127, 127>, 0, kIntShift>,
      .grids = grids<kIntShift>,
      .snap = snap<kIntShift>,
      .pack = pack<8>,
      .unpack = unpack<8>,
  };
}

}  // namespace

extern const Format mxfp6_e2m3;
extern const Format mxfp6_e3m2;
extern const Format mxfp8_e4m3;
extern const Format mxfp8_e5m2;
extern const Format mxint8;

constinit const Format mxfp6_e2m3 = floats<small_floats::E2M3, 2>("mxfp6_e2m3", 7.98e-4);
constinit const Format mxfp6_e3m2 = floats<small_floats::E3M2, 4>("mxfp6_e3m2", 2.79e-3);
constinit const Format mxfp8_e4m3 = floats<small_floats::E4M3, 8>("mxfp8_e4m3", 7.07e-4);
constinit const Format mxfp8_e5m2 = floats<small_floats::E5M2, 15>("mxfp8_e5m2", 2.79e-3);
constinit const Format mxint8 = integers("mxint8", 6.75e-5);

}  // namespace fewbits::mx
