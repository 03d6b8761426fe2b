#include <algorithm>
#include <bit>
#include <limits>
#include <numeric>

#include "kernels/test_support.h"

namespace fewbits {
namespace {

using VectorOps = EachTable;
INSTANTIATE_TEST_SUITE_P(Isa, VectorOps, testing::ValuesIn(usable_tables()), table_name);

TEST_P(VectorOps, EveryHalfBecomesItsFloat) {
  std::vector<uint16_t> halves(65536);
  std::iota(halves.begin(), halves.end(), uint16_t{0});
  std::vector<float> floats(halves.size());
  GetParam()->halves_to_floats(halves.data(), std::ssize(halves), floats.data());
  for (size_t i = 0; i < halves.size(); ++i) {
    const float expected = half_to_float(halves[i]);
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(floats[i])) << i;
    } else {
      EXPECT_EQ(std::bit_cast<uint32_t>(floats[i]), std::bit_cast<uint32_t>(expected)) << i;
    }
  }
}

TEST_P(VectorOps, EveryBfloatBecomesItsFloat) {
  std::vector<uint16_t> bits(65536);
  std::iota(bits.begin(), bits.end(), uint16_t{0});
  std::vector<float> floats(bits.size());
  GetParam()->bfloats_to_floats(bits.data(), std::ssize(bits), floats.data());
  for (size_t i = 0; i < bits.size(); ++i) {
    EXPECT_EQ(std::bit_cast<uint32_t>(floats[i]),
              std::bit_cast<uint32_t>(bfloat16_to_float(bits[i])));
  }
}

TEST_P(VectorOps, FloatsBecomeTheNearestHalf) {
  std::vector<float> floats;
  for (uint32_t half = 0; half < 0x7c00;
       ++half) {  // each half, the middle to the next, and both sides of it
    const float low = half_to_float(static_cast<uint16_t>(half));
    const float high = half_to_float(static_cast<uint16_t>(half + 1));
    const float middle = std::isinf(high) ? 65520.0f : 0.5f * (low + high);
    for (float value : {low, middle, std::nextafter(middle, 0.0f), std::nextafter(middle, 1e9f)}) {
      floats.push_back(value);
      floats.push_back(-value);
    }
  }
  floats.push_back(1e30f);
  floats.push_back(-std::numeric_limits<float>::infinity());
  std::vector<uint16_t> halves(floats.size());
  GetParam()->floats_to_halves(floats.data(), std::ssize(floats), halves.data());
  for (size_t i = 0; i < floats.size(); ++i)
    EXPECT_EQ(halves[i], half_from_float(floats[i])) << floats[i];
}

TEST_P(VectorOps, AllSizesStayInsideTheirBuffers) {
  const KernelTable& table = *GetParam();
  for (int64_t count = 1; count <= 300; ++count) {
    const auto values = normal_values(count, static_cast<uint32_t>(count));
    const auto gains = normal_values(count, static_cast<uint32_t>(1000 + count));
    const Guarded<float> x(values), gain(gains);
    Guarded<float> out(count), again(count);
    Guarded<uint16_t> halves(count);

    double square = 0, product = 0;
    for (size_t i = 0; i < values.size(); ++i) {
      square += double{values[i]} * values[i];
      product += double{values[i]} * gains[i];
    }
    EXPECT_NEAR(table.dot(x.data(), gain.data(), count), product, 1e-4);

    table.rms_norm(x.data(), gain.data(), 1e-5f, count, out.data());
    const double scale = 1 / std::sqrt(square / static_cast<double>(count) + 1e-5);
    for (int64_t i = 0; i < count; ++i) {
      const auto at = static_cast<size_t>(i);
      ASSERT_NEAR(out[i], values[at] * scale * gains[at], 1e-5) << count;
    }

    table.floats_to_halves(x.data(), count, halves.data());
    table.halves_to_floats(halves.data(), count, again.data());
    for (int64_t i = 0; i < count; ++i) {
      ASSERT_EQ(halves[i], half_from_float(values[static_cast<size_t>(i)]));
      ASSERT_EQ(again[i], half_to_float(halves[i]));
    }

    std::memcpy(out.data(), x.data(), static_cast<size_t>(count) * sizeof(float));
    table.add(out.data(), gain.data(), count);
    for (int64_t i = 0; i < count; ++i) {
      ASSERT_EQ(out[i], values[static_cast<size_t>(i)] + gains[static_cast<size_t>(i)]);
    }
  }
}

TEST_P(VectorOps, SiluAndSoftmaxFollowTheExponential) {
  const KernelTable& table = *GetParam();
  for (int64_t count = 1; count <= 100; ++count) {
    const auto gates = normal_values(count, static_cast<uint32_t>(count), 20);
    const auto ups = normal_values(count, static_cast<uint32_t>(1000 + count));
    const Guarded<float> gate(gates), up(ups);
    Guarded<float> out(count), weights(gates);
    table.silu_multiply(gate.data(), up.data(), count, out.data());
    table.softmax(weights.data(), count);
    const float highest = *std::max_element(gates.begin(), gates.end());
    double total = 0;
    for (float value : gates) total += std::exp(double{value - highest});
    for (int64_t i = 0; i < count; ++i) {
      const float gate_value = gates[static_cast<size_t>(i)];
      const double g = gate_value;
      const double silu = g / (1 + std::exp(-g)) * ups[static_cast<size_t>(i)];
      ASSERT_NEAR(out[i], silu, 1e-6 * std::abs(silu) + 1e-30) << g;
      const double weight = std::exp(double{gate_value - highest}) / total;
      ASSERT_NEAR(weights[i], weight, 1e-6 * weight + 1e-30) << g - highest;
    }
  }
}

TEST_P(VectorOps, SiluOfExtremesIsFinite) {
  std::vector<float> gate = {-1e30f, -1000, -90, -87.5f, 0, 88, 1000, 1e30f};
  const std::vector<float> up(gate.size(), 1);
  std::vector<float> out(gate.size());
  GetParam()->silu_multiply(gate.data(), up.data(), std::ssize(gate), out.data());
  for (size_t i = 0; i < gate.size(); ++i) {
    EXPECT_TRUE(std::isfinite(out[i])) << gate[i];
    EXPECT_NEAR(out[i], gate[i] > 0 ? gate[i] : 0, 1e-6f * std::abs(gate[i])) << gate[i];
  }
}

TEST_P(VectorOps, ActivationsFollowTheirDefinitions) {
  const KernelTable& table = *GetParam();
  constexpr double kGeluError = 2e-6;  // of the error function: 1.5e-7 times half a few units
  for (int64_t count = 1; count <= 60; ++count) {
    const auto values = normal_values(count, static_cast<uint32_t>(count), 4);
    const auto others = normal_values(count, static_cast<uint32_t>(500 + count));
    Guarded<float> silu(values), gelu(values), gelu_tanh(values), relu(values), capped(values);
    Guarded<float> product(values), sum(values);
    const Guarded<float> other(others);
    table.silu(silu.data(), count);
    table.gelu(gelu.data(), count);
    table.gelu_tanh(gelu_tanh.data(), count);
    table.relu(relu.data(), count);
    table.soft_cap(capped.data(), 3, count);
    table.multiply(product.data(), other.data(), count);
    table.add_scaled(sum.data(), other.data(), 0.5f, count);
    for (int64_t i = 0; i < count; ++i) {
      const double x = values[static_cast<size_t>(i)], y = others[static_cast<size_t>(i)];
      ASSERT_NEAR(silu[i], x / (1 + std::exp(-x)), 1e-6 * std::abs(x));
      ASSERT_NEAR(gelu[i], x / 2 * (1 + std::erf(x / std::sqrt(2.0))), kGeluError);
      const double inner = std::sqrt(2 / 3.14159265358979) * (x + 0.044715 * x * x * x);
      ASSERT_NEAR(gelu_tanh[i], x / 2 * (1 + std::tanh(inner)), kGeluError);
      ASSERT_EQ(relu[i], x > 0 ? static_cast<float>(x) : 0.0f);
      ASSERT_NEAR(capped[i], 3 * std::tanh(x / 3), 1e-6);
      ASSERT_EQ(product[i], static_cast<float>(x) * static_cast<float>(y));
      ASSERT_NEAR(sum[i], x + y / 2, 1e-6);
    }
  }
}

TEST_P(VectorOps, ActivationsOfExtremesAreFinite) {
  const std::vector<float> extremes = {-1e30f, -1000, -20, 0, 20, 1000, 1e30f};
  for (const auto activation : {GetParam()->gelu, GetParam()->gelu_tanh, GetParam()->silu}) {
    std::vector<float> x = extremes;
    activation(x.data(), std::ssize(x));
    for (size_t i = 0; i < x.size(); ++i) {
      EXPECT_NEAR(x[i], std::max(extremes[i], 0.0f), 1e-6f * std::abs(extremes[i]) + 1e-6f);
    }
  }
}

TEST_P(VectorOps, LayerNormTakesMeanAndVarianceAway) {
  for (int64_t count = 1; count <= 70; ++count) {
    auto values = normal_values(count, static_cast<uint32_t>(count));
    for (float& value : values) value += 10;
    const auto gains = normal_values(count, static_cast<uint32_t>(200 + count));
    const auto biases = normal_values(count, static_cast<uint32_t>(400 + count));
    const Guarded<float> x(values), gain(gains), bias(biases);
    Guarded<float> out(count), plain(count);
    GetParam()->layer_norm({x.data(), gain.data(), bias.data(), 1e-5f, count, out.data()});
    GetParam()->layer_norm({x.data(), gain.data(), nullptr, 1e-5f, count, plain.data()});
    double mean = 0, variance = 0;
    for (const float value : values) mean += double{value} / static_cast<double>(count);
    for (const float value : values) {
      variance += (value - mean) * (value - mean) / static_cast<double>(count);
    }
    for (int64_t i = 0; i < count; ++i) {
      const auto at = static_cast<size_t>(i);
      const double normed = (values[at] - mean) / std::sqrt(variance + 1e-5) * gains[at];
      ASSERT_NEAR(plain[i], normed, 1e-3 * std::abs(gains[at]));
      ASSERT_NEAR(out[i], plain[i] + biases[at], 1e-6);
    }
  }
}

TEST_P(VectorOps, RopeRotatesPairs) {
  for (int64_t count = 2; count <= 130; count += 2) {
    const int64_t half = count / 2;
    const auto values = normal_values(count, static_cast<uint32_t>(count));
    std::vector<float> cosines, sines;
    for (int64_t i = 0; i < half; ++i) {
      cosines.push_back(std::cos(0.1f * static_cast<float>(i)));
      sines.push_back(std::sin(0.1f * static_cast<float>(i)));
    }
    Guarded<float> x(values);
    const Guarded<float> c(cosines), s(sines);
    GetParam()->rope_halves(x.data(), c.data(), s.data(), count);
    for (int64_t i = 0; i < half; ++i) {
      const float low = values[static_cast<size_t>(i)];
      const float high = values[static_cast<size_t>(i + half)];
      const float cosine = cosines[static_cast<size_t>(i)];
      const float sine = sines[static_cast<size_t>(i)];
      ASSERT_NEAR(x[i], low * cosine - high * sine, 1e-6);
      ASSERT_NEAR(x[i + half], high * cosine + low * sine, 1e-6);
    }
  }
}

}  // namespace
}  // namespace fewbits
