#include "engine/activation_rounding.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "base/normal_values.h"
#include "engine/engine.h"
#include "model/tiny_checkpoint.h"

namespace fewbits {
namespace {

double distance(const std::vector<float>& a, const std::vector<float>& b) {
  double error = 0, square = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    error += std::pow(double{a[i]} - b[i], 2);
    square += std::pow(double{a[i]}, 2);
  }
  return std::sqrt(error / square);
}

std::vector<float> product(const PackedMatrix& matrix, const InputRounding& rounding,
                           const std::vector<float>& inputs, ThreadPool& pool) {
  const int64_t tokens = std::ssize(inputs) / matrix.columns();
  std::vector<float> scratch, out(static_cast<size_t>(tokens * matrix.rows()));
  Activations input;
  assign_rounded(rounding, inputs.data(), tokens, matrix.columns(), scratch, input, pool);
  const MatrixProduct one{&matrix, out.data(), matrix.rows()};
  multiply({&one, 1}, input, pool);
  return out;
}

// What kernels multiply is what emulation in floats says, but for the order of sums.
TEST(AssignRounded, IntegerKernelsComputeWhatFloatsDo) {
  constexpr int64_t kRows = 48, kColumns = 256;
  ThreadPool pool(2);
  for (const char* name : {"int8_channel", "int4_channel", "int4_g128", "Q8_0"}) {
    const Format& format = format_named(name);
    const std::vector<float> values = normal_values(kRows * kColumns, 1);
    std::vector<std::byte> bytes(static_cast<size_t>(kRows * row_bytes(format, kColumns)));
    encode_rows(format, values.data(), kRows, kColumns, nullptr, Search::kReference, bytes.data());
    const TensorView view{&format, {kRows, kColumns}, bytes};
    const PackedMatrix codes = PackedMatrix::pack(view, {}, {}, pool);
    const PackedMatrix floats = PackedMatrix::pack(view, {}, {.float_math = true}, pool);
    InputRounding rounding{.format = &activation_format_named("int8")};
    for (const float static_scale : {0.0f, 0.02f}) {
      rounding.static_scale = static_scale;
      for (const int64_t tokens : {1, 5}) {
        const std::vector<float> inputs = normal_values(tokens * kColumns, 2);
        rounding.in_kernels = false;
        const std::vector<float> emulated = product(floats, rounding, inputs, pool);
        EXPECT_LT(distance(emulated, product(codes, rounding, inputs, pool)), 2e-6) << name;
        rounding.in_kernels = true;
        EXPECT_LT(distance(emulated, product(codes, rounding, inputs, pool)), 2e-6) << name;
      }
    }
  }
}

class RoundedEngine : public testing::Test {
 protected:
  std::vector<float> states(std::string_view activations) {
    Engine engine(model_, pool_, {.activations = activation_options(activations)});
    KvCache cache(model_.config, 9);
    const std::vector<Token> tokens = {1, 5, 3, 2, 8, 4, 6, 7, 9};
    const auto last = engine.forward(tokens, cache, 9);
    return {last.begin(), last.end()};
  }

  TinyCheckpoint checkpoint_;
  Model model_ = open_model(checkpoint_.write());
  ThreadPool pool_{2};
};

TEST_F(RoundedEngine, RoundsWhatItIsToldTo) {
  const std::vector<float> plain = states("");
  EXPECT_EQ(plain, states("none"));
  const double int8 = distance(plain, states("int8")), fp8 = distance(plain, states("fp8"));
  EXPECT_GT(int8, 1e-4);
  EXPECT_LT(int8, 0.05);
  EXPECT_GT(fp8, int8);
  EXPECT_LT(fp8, 0.2);
  EXPECT_GT(distance(plain, states("nvfp4")), fp8);
  EXPECT_THROW(states("int9"), Error);
}

TEST_F(RoundedEngine, ScalesOfACacheRoundKeysAndValues) {
  const std::vector<float> plain = states("");
  for (int layer = 0; layer < 2; ++layer) {
    const std::string module = "model.layers." + std::to_string(layer) + ".self_attn";
    model_.activations.key_scales[module] = 0.01f;
    model_.activations.value_scales[module] = 0.01f;
  }
  const double rounded = distance(plain, states(""));
  EXPECT_GT(rounded, 1e-4);
  EXPECT_LT(rounded, 0.1);
  EXPECT_EQ(plain, states("none"));
}

}  // namespace
}  // namespace fewbits
