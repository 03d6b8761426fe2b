#include "formats/iq_encode.h"

#include <array>
#include <cstring>

#include "formats/bit_planes.h"
#include "formats/iq_grids.h"
#include "formats/iq_search.h"

namespace fewbits::iq {
namespace {

// The formats' constants. kStarts, the first scales of a sub-block, are relative to the one under
// which the book's entries are as large on average as the values. How much is tried is what the
// time of ggml's encoder allows; for IQ1 it is as little as possible.
struct Iq2 {
  static constexpr int kVector = 8;
  static constexpr int kSteps = 16;
  static constexpr float kUnit = 0.125f;
  static constexpr std::array<float, 3> kLevel = {8, 25, 43};
  static constexpr Shift kShift = Shift::kNone;
  static constexpr std::array kStarts = {0.8f, 1.0f, 1.25f};
  static constexpr int kRounds = 2;
};

struct Iq2Xxs : Iq2 {
  static constexpr int kSubBlock = 32;
  static constexpr bool kEvenSigns = true;
};

struct Iq2Xs : Iq2 {
  static constexpr int kSubBlock = 16;
  static constexpr bool kEvenSigns = true;
};

struct Iq2S : Iq2 {
  static constexpr int kSubBlock = 16;
  static constexpr bool kEvenSigns = false;
  static constexpr std::array kStarts = {0.9f, 1.1f};
  static constexpr int kRounds = 1;
};

struct Iq3 {
  static constexpr int kVector = 4;
  static constexpr int kSubBlock = 32;
  static constexpr int kSteps = 16;
  static constexpr Shift kShift = Shift::kNone;
};

struct Iq3Xxs : Iq3 {
  static constexpr float kUnit = 0.25f;
  static constexpr std::array<float, 8> kLevel = {4, 12, 20, 28, 36, 44, 52, 62};
  static constexpr bool kEvenSigns = true;
  static constexpr std::array kStarts = {0.85f, 1.0f, 1.15f};
  static constexpr int kRounds = 2;
};

struct Iq3S : Iq3 {
  static constexpr float kUnit = 1;
  static constexpr std::array<float, 8> kLevel = {1, 3, 5, 7, 9, 11, 13, 15};
  static constexpr bool kEvenSigns = false;
  static constexpr std::array kStarts = {0.9f, 1.1f};
  static constexpr int kRounds = 1;
};

struct Iq1 {
  static constexpr int kVector = 8;
  static constexpr int kSteps = 8;
  static constexpr float kUnit = 1;
  static constexpr std::array<float, 3> kLevel = {-1, 0, 1};
  static constexpr std::array kStarts = {1.0f};
  static constexpr int kRounds = 1;
};

struct Iq1S : Iq1 {
  static constexpr int kSubBlock = 32;
  static constexpr Shift kShift = Shift::kSubBlock;
};

struct Iq1M : Iq1 {
  static constexpr int kSubBlock = 16;
  static constexpr Shift kShift = Shift::kVector;
};

/// Calls write(the block's codes, its bytes, all zero) for each block of a row.
template <class Kind, size_t kEntries, class Write>
void encode_row(const std::array<uint16_t, kEntries>& grid, const float* row, int64_t columns,
                const float* importance, int block_bytes, std::byte* out, Write write) {
  static const Book<Kind> book(grid);
  for (int64_t i = 0; i < columns; i += kBlockValues, out += block_bytes) {
    BlockSearch<Kind> search(book, row + i, importance ? importance + i : nullptr);
    std::memset(out, 0, static_cast<size_t>(block_bytes));
    write(search.run(), as_bytes(out));
  }
}

void add_bits(uint32_t bits, uint8_t& byte) {
  byte = static_cast<uint8_t>(byte | bits);
}

void store16(uint32_t bits, uint8_t* at) {
  at[0] = static_cast<uint8_t>(bits & 255);
  at[1] = static_cast<uint8_t>(bits >> 8 & 255);
}

void store32(uint32_t bits, uint8_t* at) {
  store16(bits, at);
  store16(bits >> 16, at + 2);
}

/// The stored seven of eight signs, four times, and the scale code.
uint32_t signs_and_scale(const BlockCode& code, size_t part) {
  uint32_t bits = static_cast<uint32_t>(code.scale_code[part]) << 28;
  for (size_t v = 0; v < 4; ++v) bits |= (code.signs[4 * part + v] & 127u) << (7 * v);
  return bits;
}

/// Codes of four bits, two a byte, the first low.
void put_scale_nibbles(const BlockCode& code, size_t count, uint8_t* out) {
  for (size_t i = 0; i < count; ++i)
    add_bits(static_cast<uint32_t>(code.scale_code[i]) << (i % 2 * 4), out[i / 2]);
}

void put_low_bytes(const BlockCode& code, size_t count, uint8_t* out) {
  for (size_t i = 0; i < count; ++i) out[i] = static_cast<uint8_t>(code.entry[i] & 255);
}

}  // namespace

void encode_iq2_xxs(const float* row, int64_t columns, const float* importance, std::byte* out) {
  encode_row<Iq2Xxs>(kIq2XxsGrid, row, columns, importance, 66, out,
                     [](const BlockCode& code, uint8_t* block) {
                       store16(code.scale, block);
                       for (size_t p = 0; p < 8; ++p) {
                         uint8_t* part = block + 2 + 8 * p;
                         for (size_t v = 0; v < 4; ++v)
                           part[v] = static_cast<uint8_t>(code.entry[4 * p + v]);
                         store32(signs_and_scale(code, p), part + 4);
                       }
                     });
}

void encode_iq2_xs(const float* row, int64_t columns, const float* importance, std::byte* out) {
  encode_row<Iq2Xs>(kIq2XsGrid, row, columns, importance, 74, out,
                    [](const BlockCode& code, uint8_t* block) {
                      store16(code.scale, block);
                      for (size_t v = 0; v < 32; ++v)
                        store16(code.entry[v] | (code.signs[v] & 127u) << 9, block + 2 + 2 * v);
                      put_scale_nibbles(code, 16, block + 66);
                    });
}

void encode_iq2_s(const float* row, int64_t columns, const float* importance, std::byte* out) {
  encode_row<Iq2S>(
      kIq2SGrid, row, columns, importance, 82, out, [](const BlockCode& code, uint8_t* block) {
        store16(code.scale, block);
        put_low_bytes(code, 32, block + 2);
        for (size_t v = 0; v < 32; ++v) {
          block[34 + v] = code.signs[v];
          add_bits(static_cast<uint32_t>(code.entry[v] >> 8) << (v % 4 * 2), block[66 + v / 4]);
        }
        put_scale_nibbles(code, 16, block + 74);
      });
}

void encode_iq3_xxs(const float* row, int64_t columns, const float* importance, std::byte* out) {
  encode_row<Iq3Xxs>(kIq3XxsGrid, row, columns, importance, 98, out,
                     [](const BlockCode& code, uint8_t* block) {
                       store16(code.scale, block);
                       put_low_bytes(code, 64, block + 2);
                       for (size_t p = 0; p < 8; ++p)
                         store32(signs_and_scale(code, p), block + 66 + 4 * p);
                     });
}

void encode_iq3_s(const float* row, int64_t columns, const float* importance, std::byte* out) {
  encode_row<Iq3S>(
      kIq3SGrid, row, columns, importance, 110, out, [](const BlockCode& code, uint8_t* block) {
        store16(code.scale, block);
        put_low_bytes(code, 64, block + 2);
        for (size_t v = 0; v < 64; ++v)
          add_bits(static_cast<uint32_t>(code.entry[v] >> 8) << (v % 8), block[66 + v / 8]);
        for (size_t v = 0; v < 32; ++v) block[74 + v] = code.signs[v];
        put_scale_nibbles(code, 8, block + 106);
      });
}

void encode_iq1_s(const float* row, int64_t columns, const float* importance, std::byte* out) {
  encode_row<Iq1S>(kIq1Grid, row, columns, importance, 50, out,
                   [](const BlockCode& code, uint8_t* block) {
                     store16(code.scale, block);
                     put_low_bytes(code, 32, block + 2);
                     for (size_t p = 0; p < 8; ++p) {
                       uint32_t bits = static_cast<uint32_t>(code.scale_code[p]) << 12;
                       for (size_t v = 0; v < 4; ++v)
                         bits |= static_cast<uint32_t>(code.entry[4 * p + v] >> 8) << (3 * v);
                       if (code.down[4 * p]) bits |= 0x8000;
                       store16(bits, block + 34 + 2 * p);
                     }
                   });
}

void encode_iq1_m(const float* row, int64_t columns, const float* importance, std::byte* out) {
  encode_row<Iq1M>(
      kIq1Grid, row, columns, importance, 56, out, [](const BlockCode& code, uint8_t* block) {
        put_low_bytes(code, 32, block);
        for (size_t v = 0; v < 32; ++v) {
          const uint32_t bits =
              static_cast<uint32_t>(code.entry[v] >> 8) | (code.down[v] ? 8u : 0u);
          add_bits(bits << (v % 2 * 4), block[32 + v / 2]);
        }
        for (size_t i = 0; i < 4; ++i) {  // four scale codes, and four bits of d above them
          uint32_t bits = static_cast<uint32_t>(code.scale >> (4 * i) & 15) << 12;
          for (size_t p = 0; p < 4; ++p)
            bits |= static_cast<uint32_t>(code.scale_code[4 * i + p]) << (3 * p);
          store16(bits, block + 48 + 2 * i);
        }
      });
}

}  // namespace fewbits::iq
