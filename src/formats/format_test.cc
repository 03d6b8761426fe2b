#include "formats/format.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "base/error.h"
#include "base/normal_values.h"
#include "base/text.h"

// What every format must do, whichever it is.
namespace fewbits {
namespace {

std::vector<const Format*> quantized_formats() {
  std::vector<const Format*> quantized;
  for (const Format* format : formats()) {
    if (format->has_levels()) quantized.push_back(format);
  }
  return quantized;
}

std::vector<const Format*> writable_formats() {
  std::vector<const Format*> writable;
  for (const Format* format : formats()) {
    if (format->can_encode()) writable.push_back(format);
  }
  return writable;
}

std::vector<const Format*> rounding_formats() {
  std::vector<const Format*> rounding = writable_formats();
  std::erase_if(rounding, [](const Format* format) { return format->is_float(); });
  return rounding;
}

/// The codes that rounding gives: not those of NaN, or outside of a narrow range.
std::vector<uint8_t> codes_given(const Format& format) {
  std::vector<uint8_t> codes(format.ascending.begin(), format.ascending.end());
  if (!codes.empty()) return codes;
  for (size_t i = format.lowest_code; i < format.levels.size(); ++i) {
    codes.push_back(static_cast<uint8_t>(i));
  }
  return codes;
}

/// Rows unlike each other: bell-shaped, heavy-tailed, one-sided, sparse, spread over decades.
constexpr int kKinds = 6, kFarFromZero = 3;

/// A normal value as one of another kind.
float of_kind(int kind, float value, std::mt19937& random) {
  if (kind == 1) return value * value * value;
  if (kind == 2) return std::abs(value);
  if (kind == kFarFromZero) return -std::abs(value) - 2;
  if (kind == 4) return random() % 8 != 0 ? 0 : value;
  return kind == 5 ? value * std::exp(3 * value) : value;
}

/// Stretches of values of all kinds.
std::vector<float> odd_values(int64_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<float> values = normal_values(count, seed);
  std::uniform_int_distribution<int> kind(0, kKinds - 1);
  for (size_t i = 0; i < values.size(); i += 64) {
    const int now = kind(random);
    for (size_t j = i; j < std::min(values.size(), i + 64); ++j) {
      values[j] = of_kind(now, values[j], random);
    }
  }
  return values;
}

std::vector<std::byte> encode(const Format& format, const std::vector<float>& values,
                              int64_t columns, const float* importance, Search search) {
  const auto rows = static_cast<int64_t>(values.size()) / columns;
  std::vector<std::byte> bytes(static_cast<size_t>(rows * row_bytes(format, columns)));
  encode_rows(format, values.data(), rows, columns, importance, search, bytes.data());
  return bytes;
}

Outer outer_of(const Format& format, const std::vector<float>& values) {
  Outer outer;
  TensorRange range;
  range.add(values.data(), std::ssize(values));
  if (format.fit_tensor) format.fit_tensor(range, outer);
  return outer_of_row(format, values.data(), nullptr, std::ssize(values), &outer);
}

std::vector<float> decoded(const Format& format, const std::vector<std::byte>& bytes, size_t count,
                           int64_t columns) {
  std::vector<float> values(count);
  decode_rows(format, bytes.data(), static_cast<int64_t>(count) / columns, columns, values.data());
  return values;
}

std::vector<float> round_trip(const Format& format, const std::vector<float>& values,
                              Search search = Search::kBest) {
  const auto columns = std::min<int64_t>(4096, std::ssize(values));
  return decoded(format, encode(format, values, columns, nullptr, search), values.size(), columns);
}

double squared_error(const float* values, const float* stored, const float* weights,
                     int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) {
    const double error = static_cast<double>(values[i]) - static_cast<double>(stored[i]);
    sum += (weights ? static_cast<double>(weights[i]) : 1.0) * error * error;
  }
  return sum;
}

// --- the registry --------------------------------------------------------------------------------

TEST(Formats, AreSortedAndFound) {
  std::string last;
  for (const Format* format : formats()) {
    EXPECT_LT(last, lower_ascii(format->name));
    last = lower_ascii(format->name);
    EXPECT_EQ(find_format(format->name), format);
    if (format->gguf_type >= 0) {
      EXPECT_EQ(find_format_by_gguf_type(format->gguf_type), format);
    }
    EXPECT_EQ(&format_named(format->name), format);
  }
  EXPECT_EQ(find_format("q4_k"), find_format("Q4_K"));
  EXPECT_EQ(find_format("Q9_K"), nullptr);
  EXPECT_EQ(find_format_by_gguf_type(-1), nullptr);
}

TEST(Formats, AnUnknownNameListsTheKnown) {
  try {
    format_named("Q9_K");
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("Q9_K"));
    for (const Format* format : formats()) {
      EXPECT_THAT(error.what(), testing::HasSubstr(std::string(format->name)));
    }
  }
}

TEST(Formats, KeepTheirPromisesAboutSizes) {
  for (const Format* format : formats()) {
    SCOPED_TRACE(format->name);
    EXPECT_LE(format->block_values, kMaxBlockValues);
    EXPECT_LE(format->sub_blocks(), kMaxSubBlocks);
    EXPECT_EQ(format->block_values % format->sub_block_values, 0);
    EXPECT_TRUE(std::is_sorted(format->bounds.begin(), format->bounds.end()));
    EXPECT_EQ(row_bytes(*format, 3 * format->block_values),
              format->outer_bytes + 3 * format->block_bytes);
    EXPECT_EQ(format->outer_bytes > 0, format->sharing != Sharing::kBlock);
    EXPECT_EQ(format->fit_row != nullptr, format->sharing == Sharing::kRow);
    EXPECT_EQ(format->fit_tensor != nullptr, format->sharing == Sharing::kTensor);
  }
}

TEST(FormatsDeathTest, RowsAreWholeBlocks) {
  EXPECT_DEATH(row_bytes(format_named("Q4_K"), 255), "codec.cc");
  EXPECT_DEATH(row_bytes(format_named("Q4_0"), -32), "codec.cc");
}

// --- bytes ---------------------------------------------------------------------------------------

TEST(Formats, PackUndoesUnpack) {
  for (const Format* format : quantized_formats()) {
    if (!format->one_pattern) continue;
    SCOPED_TRACE(format->name);
    const bool ok = rc::check([&] {
      const auto bytes = *rc::gen::container<std::vector<uint8_t>>(
          static_cast<size_t>(format->block_bytes), rc::gen::arbitrary<uint8_t>());
      std::vector<std::byte> again(bytes.size());
      BlockParameters parameters;
      std::vector<uint8_t> codes(static_cast<size_t>(format->block_values));
      format->unpack(reinterpret_cast<const std::byte*>(bytes.data()), parameters, codes.data());
      format->pack(parameters, codes.data(), again.data());
      RC_ASSERT(std::memcmp(again.data(), bytes.data(), bytes.size()) == 0);
    });
    EXPECT_TRUE(ok);
  }
}

TEST(Formats, UnpackUndoesPack) {
  std::mt19937 random(3);
  for (const Format* format : quantized_formats()) {
    SCOPED_TRACE(format->name);
    const auto values = odd_values(format->block_values, 3);
    BlockParameters parameters{.outer = outer_of(*format, values)}, again = parameters;
    format->fit(values.data(), nullptr, parameters);
    std::vector<uint8_t> codes(values.size()), codes_again(values.size());
    for (uint8_t& code : codes) code = static_cast<uint8_t>(random() % format->levels.size());
    std::vector<std::byte> block(static_cast<size_t>(format->block_bytes));
    format->pack(parameters, codes.data(), block.data());
    format->unpack(block.data(), again, codes_again.data());
    EXPECT_EQ(again, parameters);
    EXPECT_EQ(codes_again, codes);
  }
}

// --- grids ---------------------------------------------------------------------------------------

TEST(Formats, RoundUndoesValue) {
  for (const Format* format : quantized_formats()) {
    SCOPED_TRACE(format->name);
    const auto block = normal_values(format->block_values, 4);
    BlockParameters parameters{.outer = outer_of(*format, block)};
    format->fit(block.data(), nullptr, parameters);
    std::array<Grid, kMaxSubBlocks> grids;
    format->grids(parameters, grids.data());
    const std::vector<uint8_t> codes = codes_given(*format);
    std::vector<uint8_t> again(codes.size());
    std::vector<float> values(codes.size()), values_again(codes.size());
    for (int s = 0; s < format->sub_blocks(); ++s) {
      const Grid grid = grids[static_cast<size_t>(s)];
      ASSERT_NE(grid.scale, 0);
      values_of_codes(*format, grid, codes.data(), std::ssize(codes), values.data());
      round_to_grid(*format, grid, values.data(), std::ssize(codes), again.data());
      values_of_codes(*format, grid, again.data(), std::ssize(again), values_again.data());
      EXPECT_EQ(values_again, values);  // values, not codes: 0 may have two
    }
  }
}

TEST(Formats, RoundPicksTheNearestLevel) {
  for (const Format* format : quantized_formats()) {
    SCOPED_TRACE(format->name);
    const Grid grid{-0.25f, 0.125f};
    const auto values = normal_values(1000, 5, 40);
    std::vector<uint8_t> codes(values.size());
    round_to_grid(*format, grid, values.data(), std::ssize(values), codes.data());
    for (size_t i = 0; i < values.size(); ++i) {
      float least = INFINITY;
      for (const uint8_t code : codes_given(*format)) {
        const float level = format->levels[code];
        least = std::min(least, std::abs(grid.scale * level + grid.offset - values[i]));
      }
      float stored;
      values_of_codes(*format, grid, &codes[i], 1, &stored);
      ASSERT_NEAR(std::abs(stored - values[i]), least, 1e-5);
    }
  }
}

/// Not so the powers of two.
bool stores_any_scale(const Format& format) {
  return !format.name.starts_with("mx") && !format.name.starts_with("MX");
}

bool is_integer_offset(const Format& format) {
  return format.name.ends_with("_asym");
}

TEST(Formats, SnapKeepsWhatIsStored) {
  for (const Format* format : quantized_formats()) {
    SCOPED_TRACE(format->name);
    const auto block = odd_values(format->block_values, 16);
    BlockParameters parameters{.outer = outer_of(*format, block)};
    format->fit(block.data(), nullptr, parameters);
    BlockParameters again{.outer = parameters.outer};
    std::array<Grid, kMaxSubBlocks> grids, grids_again;
    format->grids(parameters, grids.data());
    format->snap(grids.data(), again);
    format->grids(again, grids_again.data());
    for (size_t s = 0; s < static_cast<size_t>(format->sub_blocks()); ++s) {
      EXPECT_FLOAT_EQ(grids_again[s].scale, grids[s].scale);
      EXPECT_FLOAT_EQ(grids_again[s].offset, grids[s].offset);
    }
  }
}

TEST(Formats, SnapStaysWithinHalfAStepOfEachScale) {
  std::mt19937 random(6);
  std::uniform_real_distribution<float> scale(0.01f, 1.0f);
  for (const Format* format : quantized_formats()) {
    SCOPED_TRACE(format->name);
    if (format->sharing != Sharing::kBlock || !stores_any_scale(*format)) continue;
    std::array<Grid, kMaxSubBlocks> wanted, stored;
    for (Grid& grid : wanted) grid = {scale(random), -scale(random)};
    BlockParameters parameters;
    format->snap(wanted.data(), parameters);
    format->grids(parameters, stored.data());
    // Four bits at least for scales below a common unit; a half alone where there is none.
    const float tolerance = format->sub_blocks() > 1 ? 0.51f / 15 : 0x1p-11f;
    for (size_t s = 0; s < static_cast<size_t>(format->sub_blocks()); ++s) {
      EXPECT_NEAR(stored[s].scale, wanted[s].scale, tolerance);
      if (stored[s].offset == 0) continue;  // a format without offsets
      const float step = is_integer_offset(*format) ? 0.51f * stored[s].scale : tolerance;
      if (wanted[s].offset < -stored[s].scale * format->levels.back()) continue;
      EXPECT_NEAR(stored[s].offset, wanted[s].offset, step);
    }
  }
}

// --- encoding ------------------------------------------------------------------------------------

TEST(Encode, GaussianErrorIsAsDeclared) {
  const auto values = normal_values(1 << 20, 7);
  const std::vector<float> zeros(values.size());
  const double power = squared_error(values.data(), zeros.data(), nullptr, std::ssize(values));
  for (const Format* format : writable_formats()) {
    const auto stored = round_trip(*format, values);
    const double error =
        squared_error(values.data(), stored.data(), nullptr, std::ssize(values)) / power;
    EXPECT_LE(error, format->gaussian_error) << format->name;
    EXPECT_GE(error, 0.97 * format->gaussian_error) << format->name << ": declare the gain";
  }
}

/// Over all blocks: each by its own size, else the largest values alone would say.
double mean_relative_error(const Format& format, const std::vector<float>& values,
                           const std::vector<float>& rounded, const float* weights,
                           int64_t columns) {
  const std::vector<float> zeros(values.size());
  const int64_t size = format.block_values;
  double sum = 0;
  for (int64_t i = 0; i < std::ssize(values); i += size) {
    const auto at = static_cast<size_t>(i);
    const float* w = weights ? weights + i % columns : nullptr;
    const double square = squared_error(&values[at], &zeros[at], w, size);
    if (square > 0) sum += squared_error(&values[at], &rounded[at], w, size) / square;
  }
  return sum / static_cast<double>(std::ssize(values) / size);
}

/// Of a whole tensor; a block of it may well be worse.
TEST(Encode, IsNeverWorseThanTheReference) {
  constexpr int64_t kColumns = 1280, kRows = 12;
  auto importance = normal_values(kColumns, 9);
  for (float& weight : importance) weight = std::exp(2 * weight);
  std::mt19937 random(8);
  for (int kind = 0; kind < kKinds; ++kind) {
    auto values = normal_values(kColumns * kRows, 8);
    for (float& value : values) value = of_kind(kind, value, random);
    for (const Format* format : quantized_formats()) {
      for (const bool weighted : {false, true}) {
        const float* weights = weighted ? importance.data() : nullptr;
        const auto error = [&](Search search) {
          const auto bytes = encode(*format, values, kColumns, weights, search);
          const auto rounded = decoded(*format, bytes, values.size(), kColumns);
          return mean_relative_error(*format, values, rounded, weights, kColumns);
        };
        // The reference overflows where blocks are too large for halves.
        const double limit = error(Search::kReference);
        EXPECT_FALSE(error(Search::kBest) > limit * (kind == kFarFromZero ? 1.02 : 1 + 1e-12))
            << format->name << ", values of kind " << kind << (weighted ? ", weighted" : "");
      }
    }
  }
}

/// FNV-1a.
uint64_t digest_of(const std::vector<std::byte>& bytes) {
  uint64_t digest = 14695981039346656037u;
  for (const std::byte byte : bytes) {
    digest = (digest ^ std::to_integer<uint64_t>(byte)) * 1099511628211u;
  }
  return digest;
}

// Compilers and machines must agree on every bit. A changed search changes these on purpose.
using Digest = std::pair<std::string_view, uint64_t>;
constexpr Digest kDigests[] = {
    {"IQ1_M", 0x2ae3fdd8bb89e7acu},
    {"IQ1_S", 0xfaf82d5f2a1fba78u},
    {"IQ2_S", 0x3ebcdc45a2284e7au},
    {"IQ2_XS", 0x802661f08bb369bbu},
    {"IQ2_XXS", 0x326aa6cffa1ddc1bu},
    {"IQ3_S", 0xb811947aa8030cc8u},
    {"IQ3_XXS", 0x81f52ff1c13b9e81u},
    {"IQ4_NL", 0xfd25f900283d1b8au},
    {"IQ4_XS", 0x047d1be603f24b24u},
    {"Q2_K", 0x11448f1b832fbdfeu},
    {"Q3_K", 0x48e231c1b28115e8u},
    {"Q4_0", 0x94665b19c6b31db4u},
    {"Q4_1", 0x8dfc5d3da03df693u},
    {"Q4_K", 0x84f5779f8f56f3f5u},
    {"Q5_0", 0x48984bb293605f85u},
    {"Q5_1", 0x9a4e4decd1a78ad8u},
    {"Q5_K", 0x570b95a870854fe2u},
    {"Q6_K", 0xa39a5b0efe323738u},
    {"Q8_0", 0x8d3493efbc7cced3u},
    {"int2_g128", 0x5ca6e3552d61fcf3u},
    {"int2_g128_asym", 0xf8c71672923db2cdu},
    {"int2_g32", 0x25fbaefe74bafbd7u},
    {"int2_g64", 0x612769ba047be295u},
    {"int2_g64_asym", 0x6934deaa072551e7u},
    {"int3_channel", 0x5e4b1ae1e97233c7u},
    {"int3_g128", 0xe5ea0d39f4f56c4bu},
    {"int3_g128_asym", 0x5700226ce5898208u},
    {"int3_g32", 0xcb56a551ab0b0fd2u},
    {"int4_channel", 0xd5481a0a71bc0b0cu},
    {"int4_channel_asym", 0xfc249fd83bf6e0afu},
    {"int4_g128", 0xc1a4e7fa35bf45bcu},
    {"int4_g128_asym", 0xde9bea7bfefe2555u},
    {"int4_g32", 0x54d010ad4718a155u},
    {"int4_g32_asym", 0x1fe74c9a7eef09c4u},
    {"int4_g32_narrow", 0xf6eb81aee60bd3e3u},
    {"int4_g64", 0xcd3ec5267c9ff26au},
    {"int4_g64_asym", 0x85df54b5a4f7a3e9u},
    {"int4_tensor", 0x69fa58251638e750u},
    {"int8_channel", 0xdbe935d102d915d2u},
    {"int8_channel_asym", 0x4dfa5255d63471d8u},
    {"int8_channel_narrow", 0x8925d7b44cffff68u},
    {"int8_g128", 0xfa6b802437a6bc95u},
    {"int8_g128_asym", 0x8e6a59dea3ca0ed2u},
    {"int8_g32", 0xaa7383bbbb40df2au},
    {"int8_tensor", 0x8a1265e942bf26acu},
    {"int8_tensor_asym", 0x705b271765c13e63u},
    {"fp4_e2m1", 0xc181c4cfbf7e5003u},
    {"fp4_e2m1_channel", 0x3fffb4f69dad89beu},
    {"fp6_e2m3", 0x4b1fabec4654df5du},
    {"fp6_e2m3_channel", 0xb6a56f22bf033ed2u},
    {"fp6_e3m2", 0xc7c01b0216cd18f2u},
    {"fp6_e3m2_channel", 0x2e5ec7fd29167492u},
    {"fp8_e4m3", 0x5f7d14594b56de05u},
    {"fp8_e4m3_b128", 0x3c2cbedd72310e71u},
    {"fp8_e4m3_channel", 0x257b79630f416b06u},
    {"fp8_e5m2", 0x4beae7609df552aeu},
    {"fp8_e5m2_channel", 0x1923be358e9d19abu},
    {"MXFP4", 0x33dc03833a2a7718u},
    {"mxfp6_e2m3", 0x914ff54c266878d4u},
    {"mxfp6_e3m2", 0x3d826bfd067d9365u},
    {"mxfp8_e4m3", 0xd551caccfa2c8a0eu},
    {"mxfp8_e5m2", 0x82ea258e9e2f7e40u},
    {"mxint8", 0x2fcdbd52ce950a7cu},
    {"nf4", 0x49b4d2283dee3aa3u},
    {"NVFP4", 0xc18bcec6aace091au},
    {"nvfp4_tensor", 0x47431a9ee852742cu},
    {"TQ1_0", 0xa51d761adb0dc898u},
    {"TQ2_0", 0x2f21c8369e09e699u},
};

TEST(Encode, GivesTheSameBytesEverywhere) {
  // Integers scaled: the standard's normal distribution is not the same everywhere.
  std::mt19937 random(14);
  std::vector<float> values(64 * 256);
  for (float& value : values) {
    value = static_cast<float>(random() % 2001) * static_cast<float>(random() % 2001) * 1e-6f - 1;
  }
  for (const Format* format : rounding_formats()) {
    const auto bytes = encode(*format, values, 256, nullptr, Search::kBest);
    const auto known = std::find_if(std::begin(kDigests), std::end(kDigests),
                                    [&](const Digest& d) { return d.first == format->name; });
    if (known == std::end(kDigests)) {
      ADD_FAILURE() << "{\"" << format->name << "\", 0x" << std::hex << digest_of(bytes) << "u},";
      continue;
    }
    EXPECT_EQ(digest_of(bytes), known->second) << format->name;
  }
}

TEST(Encode, ABlockDoesNotDependOnItsNeighbours) {
  for (const Format* format : writable_formats()) {
    if (format->sharing != Sharing::kBlock) continue;
    SCOPED_TRACE(format->name);
    const int64_t blocks = 7;
    const auto values = odd_values(blocks * format->block_values, 10);
    const auto together = encode(*format, values, std::ssize(values), nullptr, Search::kBest);
    const auto apart = encode(*format, values, format->block_values, nullptr, Search::kBest);
    EXPECT_EQ(together, apart);
  }
}

TEST(Encode, ZerosStayZero) {
  for (const Format* format : writable_formats()) {
    for (const Search search : {Search::kReference, Search::kBest, Search::kRobust}) {
      const auto stored = round_trip(*format, std::vector<float>(512), search);
      EXPECT_THAT(stored, testing::Each(0.0f)) << format->name;
    }
  }
}

TEST(Encode, AConstantIsAlmostExact) {
  for (const Format* format : writable_formats()) {
    for (const float constant : {0.37f, -0.37f, 1234.5f}) {
      for (const float value : round_trip(*format, std::vector<float>(256, constant))) {
        ASSERT_NEAR(value / constant, 1, stores_any_scale(*format) ? 0.02 : 0.2) << format->name;
      }
    }
  }
}

TEST(Encode, TheLargestFloatsGiveFiniteValues) {
  constexpr float kMax = std::numeric_limits<float>::max();
  for (const Format* format : rounding_formats()) {
    std::vector<float> values = normal_values(512, 11);
    for (size_t i = 0; i < values.size(); i += 5) values[i] = i % 2 ? kMax : -kMax;
    for (const float value : round_trip(*format, values)) {
      ASSERT_TRUE(std::isfinite(value)) << format->name;
    }
  }
}

TEST(Encode, NotANumberDoesNotCrash) {
  for (const Format* format : rounding_formats()) {
    for (const float odd : {NAN, INFINITY, -INFINITY}) {
      std::vector<float> values = normal_values(512, 15);
      for (size_t i = 0; i < values.size(); i += 3) values[i] = odd;
      round_trip(*format, values);
    }
  }
}

TEST(Encode, TheSmallestFloatsGiveSmallValues) {
  for (const Format* format : rounding_formats()) {
    for (const float scale : {1e-45f, 1e-38f, 1e-30f, 1e-8f, 1e-6f}) {
      for (const float value : round_trip(*format, normal_values(512, 12, scale))) {
        ASSERT_LE(std::abs(value), 8 * scale) << format->name;
      }
    }
  }
}

TEST(Encode, ZeroImportanceKeepsSaneValues) {
  const auto values = normal_values(512, 13);
  const std::vector<float> importance(values.size());
  for (const Format* format : rounding_formats()) {
    const auto bytes =
        encode(*format, values, std::ssize(values), importance.data(), Search::kBest);
    for (const float value : decoded(*format, bytes, values.size(), std::ssize(values))) {
      ASSERT_LE(std::abs(value), 10) << format->name;
    }
  }
}

}  // namespace
}  // namespace fewbits
