#include "kernels/matmul.h"

#include "kernels/test_support.h"

namespace fewbits {
namespace {

struct Weights {
  std::vector<std::byte> bytes;
  std::vector<float> values;  ///< as the format decodes them
  TensorView view;
};

Weights make_weights(const Format& format, int64_t rows, int64_t columns, uint32_t seed = 1) {
  Weights weights;
  const auto values = normal_values(rows * columns, seed);
  weights.bytes.resize(static_cast<size_t>(rows * row_bytes(format, columns)));
  encode_rows(format, values.data(), rows, columns, nullptr, Search::kReference,
              weights.bytes.data());
  weights.values.resize(values.size());
  decode_rows(format, weights.bytes.data(), rows, columns, weights.values.data());
  weights.view = {&format, {rows, columns}, weights.bytes};
  return weights;
}

std::vector<float> product(const PackedMatrix& matrix, const std::vector<float>& inputs,
                           int64_t tokens, ThreadPool& pool) {
  Activations activations;
  activations.assign(inputs.data(), tokens, matrix.columns());
  const int64_t stride = matrix.rows() + 3;
  std::vector<float> out(static_cast<size_t>(tokens * stride), -7);
  const MatrixProduct one{&matrix, out.data(), stride};
  multiply({&one, 1}, activations, pool);
  return out;
}

/// Error of a product against double arithmetic on the decoded weights, relative to what sums of
/// such terms with random signs amount to.
double error_of(const Weights& weights, const std::vector<float>& inputs, int64_t tokens,
                const std::vector<float>& out) {
  const int64_t rows = weights.view.rows(), columns = weights.view.columns();
  double error = 0, power = 0;
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t r = 0; r < rows; ++r) {
      double sum = 0;
      for (int64_t k = 0; k < columns; ++k) {
        const double term = double{inputs[static_cast<size_t>(t * columns + k)]} *
                            weights.values[static_cast<size_t>(r * columns + k)];
        sum += term;
        power += term * term;
      }
      const double difference = out[static_cast<size_t>(t * (rows + 3) + r)] - sum;
      error += difference * difference;
    }
  }
  return std::sqrt(error / power);
}

std::vector<const Format*> writable_formats() {
  std::vector<const Format*> writable;
  for (const Format* format : formats()) {
    if (format->can_encode()) writable.push_back(format);
  }
  return writable;
}

class MatmulFormats : public testing::TestWithParam<const Format*> {};
INSTANTIATE_TEST_SUITE_P(Formats, MatmulFormats, testing::ValuesIn(writable_formats()),
                         [](const auto& info) { return std::string(info.param->name); });

TEST_P(MatmulFormats, ProductIsNearTheDecodedWeights) {
  const Format& format = *GetParam();
  ThreadPool pool(2);
  for (int64_t rows : {1, 15, 16, 17, 40}) {
    const int64_t columns = format.block_values > 32 ? 512 : 320;
    const Weights weights = make_weights(format, rows, columns);
    for (PackOptions options :
         {PackOptions{true, false}, PackOptions{false, false}, PackOptions{true, true}}) {
      const PackedMatrix matrix = PackedMatrix::pack(weights.view, {}, options, pool);
      for (int64_t tokens : {1, 2, 5, 6, 13, 16, 37}) {
        const auto inputs = normal_values(tokens * columns, 99);
        const auto out = product(matrix, inputs, tokens, pool);
        const bool exact = format.is_float() || options.float_math;
        EXPECT_LT(error_of(weights, inputs, tokens, out), exact ? 3e-6 : 8e-3)
            << rows << " " << tokens;
      }
    }
  }
}

TEST_P(MatmulFormats, RowsDecodeExactlyAndInTheGivenOrder) {
  const Format& format = *GetParam();
  ThreadPool pool(1);
  const int64_t rows = 21, columns = 512;
  const Weights weights = make_weights(format, rows, columns);
  std::vector<int32_t> order;
  for (int32_t i = 0; i < rows; ++i) order.push_back(static_cast<int32_t>((i * 5) % rows));
  for (PackOptions options :
       {PackOptions{true, false}, PackOptions{false, false}, PackOptions{true, true}}) {
    const PackedMatrix matrix = PackedMatrix::pack(weights.view, order, options, pool);
    std::vector<float> row(static_cast<size_t>(columns));
    for (int64_t i = 0; i < rows; ++i) {
      matrix.decode_row(i, row.data());
      const float* want = weights.values.data() + order[static_cast<size_t>(i)] * columns;
      ASSERT_EQ(std::memcmp(row.data(), want, row.size() * sizeof(float)), 0) << i;
    }
  }
}

// Codes of both sides, one scale for a token: with one for a row, the products are those of
// integers, and of several tokens or with other scales still those of the inputs' codes.
TEST(Matmul, CodesTimesTokensAreWhole) {
  ThreadPool pool(2);
  const int64_t rows = 40, columns = 1280;
  for (const char* name :
       {"int8_channel", "int4_channel", "int8_channel_narrow", "Q4_K", "int4_g128"}) {
    const Weights weights = make_weights(format_named(name), rows, columns);
    const PackedMatrix matrix = PackedMatrix::pack(weights.view, {}, {}, pool);
    ASSERT_TRUE(matrix.multiplies_codes());
    const bool integers = std::string_view(name).find("channel") != std::string_view::npos;
    for (const int64_t tokens : {1, 7, 16, 50}) {
      std::vector<float> inputs(static_cast<size_t>(tokens * columns));
      for (size_t i = 0; i < inputs.size(); ++i)
        inputs[i] = 0.5f * static_cast<float>(static_cast<int>(i * 37 % 255) - 127);
      Activations activations;
      activations.assign(inputs.data(), tokens, columns, {CodeScales::kToken});
      std::vector<float> out(static_cast<size_t>(tokens * (rows + 3)));
      const MatrixProduct one{&matrix, out.data(), rows + 3};
      multiply({&one, 1}, activations, pool);
      EXPECT_LT(error_of(weights, inputs, tokens, out), integers ? 1e-6 : 4e-3) << name << tokens;
    }
  }
}

// More tokens, rows and columns than any part of a product takes at once, and none of them whole.
TEST(Matmul, PartsFitTogether) {
  ThreadPool pool(2);
  const int64_t rows = 2 * 256 + 37, columns = 2 * 512 + 96, tokens = 512 + 21;
  const auto inputs = normal_values(tokens * columns, 3);
  for (const char* name : {"Q5_1", "int4_channel", "F16", "BF16"}) {
    const Format& format = format_named(name);
    const Weights weights = make_weights(format, rows, columns);
    for (const bool repack : {true, false}) {
      const PackedMatrix matrix = PackedMatrix::pack(weights.view, {}, {.repack = repack}, pool);
      const auto out = product(matrix, inputs, tokens, pool);
      EXPECT_LT(error_of(weights, inputs, tokens, out), format.is_float() ? 3e-6 : 8e-3) << name;
      for (size_t i = static_cast<size_t>(rows); i < out.size(); i += static_cast<size_t>(rows) + 3)
        ASSERT_EQ(out[i], -7) << "beyond the rows";
    }
  }
}

TEST_P(MatmulFormats, ThreadsDoNotChangeResults) {
  const Format& format = *GetParam();
  ThreadPool one(1), two(2), seven(7);
  const int64_t rows = 300, columns = 512;
  const Weights weights = make_weights(format, rows, columns);
  const PackedMatrix matrix = PackedMatrix::pack(weights.view, {}, {}, seven);
  for (const int64_t tokens : {9, 40}) {
    const auto inputs = normal_values(tokens * columns, 5);
    const auto first = product(matrix, inputs, tokens, one);
    EXPECT_EQ(first, product(matrix, inputs, tokens, two));
    EXPECT_EQ(first, product(matrix, inputs, tokens, seven));
  }
}

}  // namespace
}  // namespace fewbits
