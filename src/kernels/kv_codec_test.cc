#include "kernels/kv_codec.h"

#include <algorithm>

#include "base/error.h"
#include "kernels/lloyd_max.h"
#include "kernels/rotation.h"
#include "kernels/test_support.h"

namespace fewbits {
namespace {

using KvCodecs = EachTable;
INSTANTIATE_TEST_SUITE_P(Isa, KvCodecs, testing::ValuesIn(usable_tables()), table_name);

/// A chunk of keys or values as the kernels decode it: [32][depth].
std::vector<float> decoded(const KernelTable& table, const KvCodec& codec, KvRole role,
                           const std::vector<uint8_t>& chunk) {
  const KvChunkLayout layout = codec.layout();
  const int64_t depth = codec.depth();
  const Guarded<uint8_t> bytes(chunk);
  Guarded<float> raw(kKvChunk * depth);
  std::vector<float> rows(static_cast<size_t>(kKvChunk * depth));
  const bool keys = role == KvRole::kKey;
  if (keys) {
    table.decode_keys(layout, bytes.data(), raw.data(), 16 * depth);
  } else {
    table.decode_values(layout, bytes.data(), depth, {raw.data(), 16 * kKvChunk});
  }
  for (int64_t t = 0; t < kKvChunk; ++t) {
    for (int64_t d = 0; d < depth; ++d) {
      rows[static_cast<size_t>(t * depth + d)] = keys ? raw[(t / 16 * depth + d) * 16 + t % 16]
                                                      : raw[(d / 16 * kKvChunk + t) * 16 + d % 16];
    }
  }
  return rows;
}

std::vector<uint8_t> encoded(const KvCodec& codec, const std::vector<float>& rows) {
  std::vector<uint8_t> chunk(static_cast<size_t>(codec.chunk_bytes()));
  codec.encode(rows.data(), chunk.data());
  return chunk;
}

/// Of the values that stand for the input's own dimensions.
double relative_error(const std::vector<float>& rows, const std::vector<float>& decoded,
                      int64_t dims) {
  const int64_t depth = std::ssize(decoded) / kKvChunk;
  double error = 0, total = 0;
  for (int64_t t = 0; t < kKvChunk; ++t) {
    for (int64_t d = 0; d < dims; ++d) {
      const double x = double{rows[static_cast<size_t>(t * dims + d)]};
      error += std::pow(x - double{decoded[static_cast<size_t>(t * depth + d)]}, 2);
      total += x * x;
    }
  }
  return error / total;
}

/// The most that normal values may lose: somewhat above what is expected of each.
double error_bound(const KvFormat& format) {
  if (format.bits == 16) return 1e-5;
  if (format.codes == KvCodes::kFloat8) return 1.2e-3;
  if (format.bits == 8) return 5e-5;
  const double bounds[] = {0, 0, 0.25, 0.06, 0.02};
  const bool projected = format.key_rule == KvRule::kProjected;
  return projected ? 0.7 : bounds[format.bits];
}

TEST_P(KvCodecs, ComeBackWithinTheirError) {
  for (const KvFormat& format : kv_formats()) {
    for (const KvRole role : {KvRole::kKey, KvRole::kValue}) {
      if (role == KvRole::kValue && !format.for_values) continue;
      for (const int64_t dims : {16, 33, 64, 80, 128, 256}) {
        const KvCodec codec(format, role, dims);
        const auto rows = normal_values(kKvChunk * dims, static_cast<uint32_t>(dims));
        const auto back = decoded(*GetParam(), codec, role, encoded(codec, rows));
        EXPECT_LT(relative_error(rows, back, dims), error_bound(format))
            << format.name << ", " << dims << " dimensions, role " << static_cast<int>(role);
      }
    }
  }
}

TEST_P(KvCodecs, EveryInstructionSetDecodesTheSame) {
  const KernelTable& scalar = *usable_tables().back();
  for (const KvFormat& format : kv_formats()) {
    for (const KvRole role : {KvRole::kKey, KvRole::kValue}) {
      if (role == KvRole::kValue && !format.for_values) continue;
      const KvCodec codec(format, role, 96);
      const auto chunk = encoded(codec, normal_values(kKvChunk * 96, 5));
      const auto want = decoded(scalar, codec, role, chunk);
      const auto have = decoded(*GetParam(), codec, role, chunk);
      for (size_t i = 0; i < want.size(); ++i) {
        ASSERT_NEAR(have[i], want[i], 1e-6f * (1 + std::fabs(want[i]))) << format.name;
      }
    }
  }
}

TEST_P(KvCodecs, ZerosStayZeros) {
  for (const KvFormat& format : kv_formats()) {
    const KvCodec codec(format, KvRole::kKey, 64);
    const std::vector<float> rows(static_cast<size_t>(kKvChunk * 64));
    for (const float x : decoded(*GetParam(), codec, KvRole::kKey, encoded(codec, rows))) {
      ASSERT_EQ(x, 0) << format.name;
    }
  }
}

TEST(KvCodecSizes, AreAsComputed) {
  const auto bits = [](std::string_view name, KvRole role, int64_t dims) {
    const KvCodec codec(kv_format_named(name), role, dims);
    return 8.0 * static_cast<double>(codec.chunk_bytes()) / static_cast<double>(kKvChunk * dims);
  };
  for (const KvRole role : {KvRole::kKey, KvRole::kValue}) {
    EXPECT_EQ(bits("f16", role, 64), 16);
    EXPECT_EQ(bits("fp8", role, 64), 8);
    EXPECT_EQ(bits("q8_0", role, 64), 8.5);
    EXPECT_EQ(bits("q4_0", role, 64), 4.5);
    EXPECT_EQ(bits("turbo3", role, 128), 3.125);  // 5.12 times smaller
    EXPECT_EQ(bits("turbo3", role, 64), 3.25);
    EXPECT_EQ(bits("turbo2", role, 128), 2.125);
    EXPECT_EQ(bits("kivi2", role, 64), 3);
  }
  // What a real six times takes: keys of 3 bits, values of 2.
  EXPECT_EQ(bits("turbo3", KvRole::kKey, 128) + bits("turbo2", KvRole::kValue, 128), 2 * 2.625);
  EXPECT_EQ(bits("qjl3", KvRole::kKey, 128), 3.25);  // a second scale
}

TEST(KvCodecNames, UnknownOnesAreRefused) {
  EXPECT_THROW(kv_format_named("q5_0"), Error);
  EXPECT_THROW(KvCodec(kv_format_named("qjl3"), KvRole::kValue, 64), Error);
  EXPECT_THROW(KvCodec(kv_format_named("q8_0"), KvRole::kKey, kKvWidestHead + 1), Error);
  EXPECT_THROW(KvCodec(kv_format_named("turbo2"), KvRole::kKey, 4), Error);
}

// The published levels of the normal limit, and our own of two sizes by numpy, to three digits.
TEST(LloydMax, KnownLevels) {
  const auto positive = [](int bits, int64_t dim) {
    auto levels = lloyd_max_levels(bits, dim);
    levels.erase(levels.begin(), levels.begin() + std::ssize(levels) / 2);
    return levels;
  };
  const auto expect_near = [&](int bits, int64_t dim, const std::vector<double>& want) {
    const auto have = positive(bits, dim);
    ASSERT_EQ(have.size(), want.size());
    for (size_t i = 0; i < want.size(); ++i)
      EXPECT_NEAR(have[i], want[i], 2e-3) << bits << " " << dim;
  };
  expect_near(1, 128, {0.7994});
  expect_near(2, 128, {0.4524, 1.5051});
  expect_near(3, 128, {0.2443, 0.7531, 1.3363, 2.1311});
  expect_near(4, 128, {0.1276, 0.3858, 0.6527, 0.9359, 1.2465, 1.6030, 2.0447, 2.6878});
  expect_near(2, 64, {0.4521, 1.4999});
  expect_near(3, 64, {0.2436, 0.7504, 1.3291, 2.1111});
  expect_near(3, 1 << 16, {0.2450, 0.7558, 1.3437, 2.1517});
}

TEST(Rotations, AreOrthonormalAndCanBeUndone) {
  for (const int64_t dims : {1, 2, 7, 64, 80, 96, 128}) {
    const Rotation rotation(dims, 3);
    const auto x = normal_values(dims, 1), y = normal_values(dims, 2);
    auto a = x, b = y;
    rotation.apply(a.data());
    rotation.apply(b.data());
    double before = 0, after = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      before += double{x[i]} * double{y[i]};
      after += double{a[i]} * double{b[i]};
    }
    EXPECT_NEAR(before, after, 1e-4);
    rotation.undo(a.data());
    for (size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(a[i], x[i], 1e-5);
  }
}

TEST(Rotations, SpreadASingleValue) {
  for (const int64_t dims : {64, 80, 96}) {
    std::vector<float> x(static_cast<size_t>(dims));
    x[3] = 1;
    Rotation(dims, 3).apply(x.data());
    const float most = std::fabs(
        *std::ranges::max_element(x, [](float a, float b) { return std::fabs(a) < std::fabs(b); }));
    EXPECT_LT(most, 0.6f) << dims;
  }
}

/// What a format does to <y, x> of random unit vectors: dims * E[error^2], and the slope that
/// remains of the product.
struct ProductError {
  double variance, slope;
};

ProductError product_error(std::string_view name, int64_t dims, int chunks) {
  const KvCodec codec(kv_format_named(name), KvRole::kKey, dims);
  const int64_t depth = codec.depth();
  double error = 0, together = 0, squares = 0;
  for (int chunk = 0; chunk < chunks; ++chunk) {
    auto rows = normal_values(kKvChunk * dims, 100 + static_cast<uint32_t>(chunk));
    const auto keys = decoded(kernels(), codec, KvRole::kKey, encoded(codec, rows));
    for (int64_t t = 0; t < kKvChunk; ++t) {
      auto query = normal_values(dims, 5000 + static_cast<uint32_t>(chunk * 32 + t));
      const float* x = rows.data() + t * dims;
      // Half of the query along the key, so that the slope shows.
      for (int64_t d = 0; d < dims; ++d) query[static_cast<size_t>(d)] += x[d];
      const double scale = 1 / std::sqrt(double{kernels().dot(x, x, dims)} *
                                         double{kernels().dot(query.data(), query.data(), dims)});
      query.resize(static_cast<size_t>(depth));
      codec.extend_query(query.data());
      const double want = scale * double{kernels().dot(query.data(), x, dims)};
      const double have =
          scale * double{kernels().dot(query.data(), keys.data() + t * depth, depth)};
      error += (have - want) * (have - want);
      together += have * want;
      squares += want * want;
    }
  }
  return {static_cast<double>(dims) * error / (chunks * kKvChunk), together / squares};
}

// Distortion of values and error of inner products at 128 dimensions, for unit vectors: the paper's
// figures and those of its variants. Each holds for random vectors as for rotated ones.
TEST(TurboQuant, DistortionOfValues) {
  const double expected[] = {0.1160, 0.0340, 0.0093};
  for (const int bits : {2, 3, 4}) {
    const KvCodec codec(kv_format_named("turbo" + std::to_string(bits)), KvRole::kValue, 128);
    double error = 0;
    constexpr int kChunks = 20;
    for (uint32_t seed = 0; seed < kChunks; ++seed) {
      const auto rows = normal_values(kKvChunk * 128, seed);
      error += relative_error(rows, decoded(kernels(), codec, KvRole::kValue, encoded(codec, rows)),
                              128) /
               kChunks;
    }
    EXPECT_NEAR(error, expected[bits - 2], 0.03 * expected[bits - 2]) << bits;
  }
}

TEST(TurboQuant, InnerProductsAreUnbiasedAndBetterThanThePapers) {
  for (const int bits : {2, 3, 4}) {
    const auto turbo = product_error("turbo" + std::to_string(bits), 128, 20);
    const auto qjl = product_error("qjl" + std::to_string(bits), 128, 20);
    EXPECT_NEAR(turbo.slope, 1, 0.01) << bits;
    EXPECT_NEAR(qjl.slope, 1, 0.03) << bits;
    // Part of the query lies along the key, where the error of this scale vanishes.
    const double unbiased[] = {0.118, 0.0305, 0.0086}, projected[] = {0.567, 0.179, 0.0519};
    EXPECT_NEAR(turbo.variance, 0.5 * unbiased[bits - 2], 0.15 * unbiased[bits - 2]) << bits;
    EXPECT_GT(qjl.variance, 3 * turbo.variance) << bits;
    EXPECT_LT(qjl.variance, 1.6 * projected[bits - 2]) << bits;
  }
}

}  // namespace
}  // namespace fewbits
