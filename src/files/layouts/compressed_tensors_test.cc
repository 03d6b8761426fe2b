#include "files/layouts/compressed_tensors.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>

#include "files/safetensors.h"
#include "files/testing.h"

// That whole models decode to the same values is checked against numpy in tests/interop/folders.py.
namespace fewbits {
namespace {

template <class Value>
Value value_at(std::span<const std::byte> bytes, size_t index) {
  Value value;
  std::memcpy(&value, bytes.data() + index * sizeof(Value), sizeof(Value));
  return value;
}

struct Packed {
  std::vector<SafetensorsEntry> entries;
  std::vector<std::byte> codes, rest;
  std::vector<float> values;  ///< as our own decoder has them
};

Packed pack(const char* name, int64_t rows, int64_t columns) {
  const Format& format = format_named(name);
  std::vector<float> values(static_cast<size_t>(rows * columns));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i * 37 % 101) - 47.0f;
  std::vector<std::byte> bytes(static_cast<size_t>(rows * row_bytes(format, columns)));
  encode_rows(format, values.data(), rows, columns, nullptr, Search::kBest, bytes.data());
  const auto tensor = layout_named("compressed-tensors").tensor({format}, "layer", rows, columns);
  Packed packed{tensor->entries(), {}, {}, values};
  const auto half = std::span(bytes).first(bytes.size() / 2);  // in two bands
  for (const auto band : {half, std::span(bytes).subspan(half.size())}) {
    const auto more = tensor->append_rows(band);
    packed.codes.insert(packed.codes.end(), more.begin(), more.end());
  }
  packed.rest = tensor->rest();
  decode_rows(format, bytes.data(), rows, columns, packed.values.data());
  return packed;
}

TEST(CompressedTensors, EveryFormatFillsItsEntries) {
  for (const std::string& name : formats_of(layout_named("compressed-tensors"))) {
    SCOPED_TRACE(name);
    const Packed packed = pack(name.c_str(), 6, 256);
    int64_t rest = 0;
    for (size_t i = 1; i < packed.entries.size(); ++i) rest += packed.entries[i].bytes;
    EXPECT_EQ(packed.entries.front().bytes, std::ssize(packed.codes));
    EXPECT_EQ(rest, std::ssize(packed.rest));
    EXPECT_EQ(compressed_tensors_config({format_named(name)}, {})["quant_method"],
              "compressed-tensors");
  }
  EXPECT_FALSE(compressed_tensors_holds(format_named("Q4_K")));
  EXPECT_FALSE(compressed_tensors_holds(format_named("int4_tensor")));
}

TEST(CompressedTensors, FourBitsWithZeroPoints) {
  const int64_t rows = 6, columns = 256, groups = 2;
  const Packed packed = pack("int4_g128_asym", rows, columns);
  ASSERT_EQ(packed.entries.size(), 4u);
  EXPECT_EQ(packed.entries[0].name, "layer.weight_packed");
  EXPECT_EQ(packed.entries[0].shape, (Shape{rows, columns / 8}));
  EXPECT_EQ(packed.entries[1].shape, (Shape{rows, groups}));
  EXPECT_EQ(packed.entries[3].shape, (Shape{1, groups}));
  const auto scales = std::span(packed.rest);
  const auto shape = scales.subspan(rows * groups * 2);
  EXPECT_EQ(value_at<int64_t>(shape, 0), rows);
  EXPECT_EQ(value_at<int64_t>(shape, 1), columns);
  const auto zeros = shape.subspan(16);
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t column = 0; column < columns; ++column) {
      const auto at = static_cast<size_t>(row * columns + column);
      const auto group = static_cast<size_t>(column / 128);
      const uint32_t code = value_at<uint32_t>(packed.codes, at / 8) >> (at % 8 * 4) & 15;
      const uint32_t zero = value_at<uint32_t>(zeros, group) >> (row * 4) & 15;
      float scale = 0;
      const size_t scale_at = static_cast<size_t>(row) * groups + group;
      decode(format_named("F16"), scales.data() + 2 * scale_at, 1, &scale);
      ASSERT_EQ(scale * (static_cast<float>(code) - static_cast<float>(zero)), packed.values[at]);
    }
  }
}

float input_scale(const char* name, float largest) {
  const Format& format = format_named(name);
  const int64_t rows = 2, columns = 128;
  const auto tensor =
      layout_named("compressed-tensors")
          .tensor({.format = format, .inputs = Inputs::kStatic}, "layer", rows, columns);
  const std::vector<std::byte> zeros(static_cast<size_t>(rows * row_bytes(format, columns)));
  tensor->append_rows(zeros);
  tensor->set_largest_input(largest);
  const SafetensorsEntry scale = tensor->entries().back();
  EXPECT_TRUE(scale.name == "layer.input_scale" || scale.name == "layer.input_global_scale");
  EXPECT_EQ(scale.shape, (Shape{1}));
  const std::vector<std::byte> rest = tensor->rest();
  return value_at<float>(std::span(rest).last(4), 0);
}

TEST(CompressedTensors, ScalesOfInputsReachTheLargest) {
  EXPECT_EQ(input_scale("int8_channel", 254), 2);
  EXPECT_EQ(input_scale("int8_channel_asym", 0), 1);
  EXPECT_EQ(input_scale("fp8_e4m3", 896), 2);
  EXPECT_EQ(input_scale("nvfp4_tensor", 1344), 2);
  EXPECT_EQ(kv_scale(224), 0.5f);
}

TEST(CompressedTensors, SparseWeightsAreHalfThere) {
  const Format& format = format_named("int8_channel");
  const int64_t columns = format.block_values;
  std::vector<float> values = {0, 5, -127, 0, 0, 0, 0, 3};
  values.resize(static_cast<size_t>(columns));
  std::vector<std::byte> row(static_cast<size_t>(row_bytes(format, columns)));
  encode_rows(format, values.data(), 1, columns, nullptr, Search::kBest, row.data());
  const auto tensor = layout_named("compressed-tensors")
                          .tensor({.format = format, .sparse = true}, "layer", 1, columns);
  const auto codes = tensor->append_rows(row);
  ASSERT_EQ(std::ssize(codes), columns / 2);
  EXPECT_EQ(std::abs(value_at<int8_t>(codes, 1)), 127);
  EXPECT_EQ(value_at<int8_t>(codes, 2), 0);  // one of three zeros makes two of four
  EXPECT_EQ(std::abs(value_at<int8_t>(codes, 3)), 3);
  const std::vector<SafetensorsEntry> entries = tensor->entries();
  EXPECT_EQ(entries.front().name, "layer.compressed");
  EXPECT_EQ(entries.back().shape, (Shape{2, 1}));
  const std::vector<std::byte> rest = tensor->rest();
  EXPECT_EQ(value_at<uint8_t>(rest, sizeof(float)), 0b1100'0110);
}

TEST(CompressedTensors, SaysWhatItsKernelsCanDo) {
  const Layout& layout = layout_named("compressed-tensors");
  const auto keeps = [&](const char* name, Inputs inputs) {
    return layout.says(format_named(name), inputs);
  };
  EXPECT_TRUE(keeps("int4_g128", Inputs::kFloats));
  EXPECT_FALSE(keeps("int4_g128", Inputs::kStatic));
  EXPECT_FALSE(keeps("fp8_e4m3_b128", Inputs::kStatic));
  EXPECT_FALSE(keeps("nvfp4_tensor", Inputs::kDynamic));
  const Json config = layout.config(
      {.format = format_named("int8_channel"), .inputs = Inputs::kFloats, .kv_scales = true}, {});
  EXPECT_EQ(config["format"], "pack-quantized");
  EXPECT_EQ(config["kv_cache_scheme"]["type"], "float");
}

TEST(SafetensorsWriter, WritesWhatTheReaderReads) {
  TestFolder folder;
  const std::vector<float> values = {1, 2, 3, 4, 5, 6};
  SafetensorsWriter writer(folder / "model.safetensors",
                           {{"a", "F32", {2, 3}, 24}, {"b", "F32", {}, 4}});
  writer.append(std::as_bytes(std::span(values)));
  writer.append(std::as_bytes(std::span(values).first(1)));
  writer.commit();
  const TensorStore store = open_safetensors_file(folder / "model.safetensors");
  ASSERT_EQ(store.tensors().size(), 2u);
  EXPECT_EQ(store.find("a")->view.shape, (Shape{2, 3}));
  EXPECT_EQ(value_at<float>(store.find("a")->view.bytes, 5), 6);
  EXPECT_EQ(value_at<float>(store.find("b")->view.bytes, 0), 1);
  EXPECT_EQ(store.file_bytes(), writer.file_bytes());
}

}  // namespace
}  // namespace fewbits
