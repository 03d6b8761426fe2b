#include <fmt/format.h>
#include <gtest/gtest.h>

#include <array>
#include <cstring>

#include "base/source_dir.h"
#include "files/gguf.h"
#include "files/safetensors.h"
#include "files/testing.h"

// Files written by the packages that define the formats: see tests/golden/files/make.py.
namespace fewbits {
namespace {

std::filesystem::path golden(std::string_view name) {
  return source_dir() / "tests/golden/files" / name;
}

/// Byte i of tensor number k, as make.py has it.
std::vector<std::byte> pattern(size_t k, size_t size) {
  std::vector<std::byte> bytes(size);
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>((7 * i + 13 * k) % 256);
  return bytes;
}

bool equal(std::span<const std::byte> a, std::span<const std::byte> b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end());
}

void set_numbers(Metadata& metadata) {
  using enum ValueType;
  metadata.set("one.uint8", {kUint8, int64_t{255}});
  metadata.set("one.int8", {kInt8, int64_t{-128}});
  metadata.set("one.uint16", {kUint16, int64_t{65535}});
  metadata.set("one.int16", {kInt16, int64_t{-32768}});
  metadata.set("one.uint32", {kUint32, int64_t{UINT32_MAX}});
  metadata.set("one.int32", {kInt32, int64_t{INT32_MIN}});
  metadata.set("one.float32", {kFloat32, double{0.1f}});
  metadata.set("one.uint64", {kUint64, int64_t{INT64_MAX}});
  metadata.set("one.int64", {kInt64, int64_t{INT64_MIN}});
  metadata.set("one.float64", {kFloat64, 0.1});
  metadata.set("one.bool", {kBool, int64_t{1}});
  metadata.set("one.string", {kString, "caf\u00e9 \u2603"});
  metadata.set("one.empty", {kString, ""});
}

void set_arrays(Metadata& metadata) {
  using enum ValueType;
  const auto set = [&](std::string_view key, ValueType element, auto values) {
    metadata.set(key, {kArray, MetadataArray{element, std::move(values)}});
  };
  using Integers = std::vector<int64_t>;
  using Floats = std::vector<double>;
  set("many.uint8", kUint8, Integers{0, 255});
  set("many.int8", kInt8, Integers{-128, 127});
  set("many.uint16", kUint16, Integers{1});
  set("many.int16", kInt16, Integers{-1});
  set("many.uint32", kUint32, Integers{1, 2, 3});
  set("many.int32", kInt32, Integers{-1, 0, 1});
  set("many.float32", kFloat32, Floats{0.5, -0.25});
  set("many.bool", kBool, Integers{1, 0});
  set("many.string", kString, std::vector<std::string>{"a", "", "\u00e9\n"});
  set("many.uint64", kUint64, Integers{INT64_MAX});
  set("many.int64", kInt64, Integers{INT64_MIN});
  set("many.float64", kFloat64, Floats{0.1, 1e300});
}

Metadata all_metadata() {
  Metadata metadata;
  metadata.set_string("general.architecture", "golden");
  metadata.set_uint32("general.alignment", 64);
  set_numbers(metadata);
  set_arrays(metadata);
  return metadata;
}

std::vector<PlannedTensor> expected_tensors() {
  static const std::array<Shape, 4> kShapes = {{{256}, {3, 256}, {2, 3, 256}, {2, 1, 3, 512}}};
  std::vector<PlannedTensor> tensors;
  for (const char* name :
       {"BF16",    "F16",    "F32",    "IQ1_M", "IQ1_S", "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ3_S",
        "IQ3_XXS", "IQ4_NL", "IQ4_XS", "MXFP4", "NVFP4", "Q2_K",  "Q3_K",   "Q4_0",    "Q4_1",
        "Q4_K",    "Q5_0",   "Q5_1",   "Q5_K",  "Q6_K",  "Q8_0",  "TQ1_0",  "TQ2_0"}) {
    const Shape& shape = kShapes[tensors.size() % kShapes.size()];
    tensors.push_back({fmt::format("tensor.{}", name), &format_named(name), shape});
  }
  return tensors;
}

TEST(FilesGolden, ReadsAllThatThePackageWrites) {
  const TensorStore store = open_gguf(golden("every.gguf"));
  const Metadata expected_metadata = all_metadata();
  for (const Metadata::Entry& entry : store.metadata().entries()) {
    const MetadataValue* value = expected_metadata.find(entry.key);
    EXPECT_TRUE(value != nullptr && *value == entry.value) << entry.key;
  }
  EXPECT_TRUE(store.metadata().entries() == expected_metadata.entries());
  const auto expected = expected_tensors();
  ASSERT_EQ(store.tensors().size(), expected.size());
  for (size_t k = 0; k < expected.size(); ++k) {
    const StoredTensor& tensor = store.tensors()[k];
    EXPECT_EQ(tensor.name, expected[k].name);
    EXPECT_EQ(tensor.view.format, expected[k].format);
    EXPECT_EQ(tensor.view.shape, expected[k].shape);
    EXPECT_TRUE(equal(tensor.view.bytes, pattern(k, tensor.view.bytes.size()))) << tensor.name;
  }
}

TEST(FilesGolden, GoldenHoldsEveryFormatOfGguf) {
  const TensorStore store = open_gguf(golden("every.gguf"));
  for (const Format* format : formats()) {
    if (format->gguf_type < 0) continue;
    EXPECT_NE(store.find(fmt::format("tensor.{}", format->name)), nullptr) << format->name;
  }
}

TEST(FilesGolden, WritesTheSameBytesAsThePackage) {
  TestFolder folder;
  const auto tensors = expected_tensors();
  GgufWriter writer(folder / "out.gguf", all_metadata(), tensors);
  for (size_t k = 0; k < tensors.size(); ++k) {
    const auto bytes = tensor_bytes(*tensors[k].format, tensors[k].shape);
    writer.append(pattern(k, static_cast<size_t>(bytes.value())));
  }
  writer.commit();
  const std::string written = read_file(folder / "out.gguf");
  EXPECT_TRUE(written == read_file(golden("every.gguf")));
  EXPECT_EQ(static_cast<int64_t>(written.size()), gguf_file_bytes(all_metadata(), tensors));
}

TEST(FilesGolden, ReadsSafetensors) {
  struct Expected {
    std::string_view format;
    Shape shape;
  };
  const std::vector<Expected> expected = {
      {"F32", {2, 3}}, {"F16", {5}}, {"BF16", {1, 2, 2}}, {"F32", {}}, {"F16", {0, 4}}};
  const TensorStore store = open_safetensors_file(golden("every.safetensors"));
  ASSERT_EQ(store.tensors().size(), expected.size());
  for (size_t k = 0; k < expected.size(); ++k) {
    const StoredTensor* tensor = store.find(fmt::format("tensor.{}", k));
    ASSERT_NE(tensor, nullptr) << k;
    EXPECT_EQ(tensor->view.format->name, expected[k].format);
    EXPECT_EQ(tensor->view.shape, expected[k].shape);
    EXPECT_TRUE(equal(tensor->view.bytes, pattern(k, tensor->view.bytes.size()))) << k;
  }
}

}  // namespace
}  // namespace fewbits
