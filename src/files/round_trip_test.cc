#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <cmath>
#include <random>
#include <set>

#include "files/gguf.h"
#include "files/testing.h"

// Whatever metadata and tensors are written, the reader gives back.
namespace fewbits {
namespace {

using rc::Gen;
namespace gen = rc::gen;

constexpr int64_t kLeast[] = {0, INT8_MIN, 0, INT16_MIN, 0, INT32_MIN};
constexpr int64_t kGreatest[] = {UINT8_MAX, INT8_MAX, UINT16_MAX, INT16_MAX, UINT32_MAX, INT32_MAX};

int64_t integer_of(ValueType type) {
  const auto index = static_cast<size_t>(type);
  if (type == ValueType::kBool) return *gen::inRange<int64_t>(0, 2);
  if (type == ValueType::kUint64) return *gen::inRange<int64_t>(0, INT64_MAX);
  if (type == ValueType::kInt64) return *gen::arbitrary<int64_t>();
  return *gen::inRange<int64_t>(kLeast[index], kGreatest[index] + 1);
}

double float_of(ValueType type) {
  const double value = *gen::arbitrary<double>();
  return type == ValueType::kFloat32 ? double{static_cast<float>(std::fmod(value, 1e38))} : value;
}

template <class Element, class Make>
std::vector<Element> some(Make make) {
  std::vector<Element> elements(*gen::inRange<size_t>(0, 9));
  for (Element& element : elements) element = make();
  return elements;
}

ValueType type_but(std::initializer_list<ValueType> excluded) {
  return static_cast<ValueType>(*gen::suchThat(gen::inRange<uint32_t>(0, 13), [&](uint32_t type) {
    return std::find(excluded.begin(), excluded.end(), static_cast<ValueType>(type)) ==
           excluded.end();
  }));
}

MetadataArray random_array() {
  const ValueType type = type_but({ValueType::kArray});
  if (type == ValueType::kString) {
    return {type, some<std::string>([] { return *gen::arbitrary<std::string>(); })};
  }
  if (type == ValueType::kFloat32 || type == ValueType::kFloat64) {
    return {type, some<double>([&] { return float_of(type); })};
  }
  return {type, some<int64_t>([&] { return integer_of(type); })};
}

MetadataValue random_value() {
  const ValueType type = type_but({});
  if (type == ValueType::kString) return {type, *gen::arbitrary<std::string>()};
  if (type == ValueType::kArray) return {type, random_array()};
  if (type == ValueType::kFloat32 || type == ValueType::kFloat64) return {type, float_of(type)};
  return {type, integer_of(type)};
}

Metadata random_metadata() {
  Metadata metadata;
  const bool aligned = *gen::arbitrary<bool>();
  if (aligned) metadata.set_uint32("general.alignment", int64_t{1} << *gen::inRange(3, 10));
  for (const auto& key : *gen::arbitrary<std::set<std::string>>()) {
    metadata.set("x" + key, random_value());
  }
  return metadata;
}

std::vector<PlannedTensor> random_tensors() {
  std::vector<PlannedTensor> tensors;
  for (const auto& name : *gen::arbitrary<std::set<std::string>>()) {
    const Format* format = formats()[*gen::inRange<size_t>(0, formats().size())];
    if (format->gguf_type < 0) continue;
    Shape shape(*gen::inRange<size_t>(format->block_values == 1 ? 0 : 1, 5));
    for (int64_t& size : shape) size = *gen::inRange<int64_t>(0, 4);
    if (!shape.empty()) shape.back() *= format->block_values;
    tensors.push_back({name, format, shape});
  }
  return tensors;
}

std::vector<std::byte> random_bytes(int64_t size, std::mt19937& random) {
  std::vector<std::byte> bytes(static_cast<size_t>(size));
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

/// Appends in pieces of any size.
void append_in_pieces(GgufWriter& writer, std::span<const std::byte> bytes, std::mt19937& random) {
  while (!bytes.empty()) {
    const size_t size = 1 + random() % bytes.size();
    writer.append(bytes.first(size));
    bytes = bytes.subspan(size);
  }
}

void expect_round_trip(const std::filesystem::path& path) {
  const Metadata metadata = random_metadata();
  const auto planned = random_tensors();
  std::mt19937 random(*gen::arbitrary<uint32_t>());
  std::vector<std::vector<std::byte>> contents;
  GgufWriter writer(path, metadata, planned);
  for (const PlannedTensor& tensor : planned) {
    contents.push_back(random_bytes(tensor_bytes(*tensor.format, tensor.shape).value(), random));
    append_in_pieces(writer, contents.back(), random);
  }
  writer.commit();

  const TensorStore store = open_gguf(path);
  RC_ASSERT(store.file_bytes() == gguf_file_bytes(metadata, planned));
  RC_ASSERT(store.metadata().entries() == metadata.entries());
  RC_ASSERT(store.tensors().size() == planned.size());
  for (size_t i = 0; i < planned.size(); ++i) {
    const StoredTensor& tensor = store.tensors()[i];
    RC_ASSERT(tensor.name == planned[i].name);
    RC_ASSERT(tensor.view.format == planned[i].format);
    RC_ASSERT(tensor.view.shape == planned[i].shape);
    RC_ASSERT(std::equal(tensor.view.bytes.begin(), tensor.view.bytes.end(), contents[i].begin(),
                         contents[i].end()));
  }
}

TEST(GgufRoundTrip, AnyMetadataAndTensors) {
  TestFolder folder;
  EXPECT_TRUE(rc::check([&] { expect_round_trip(folder / "out.gguf"); }));
}

TEST(GgufWriter, RefusesWhatGgufCannotHold) {
  TestFolder folder;
  const Format* f32 = &format_named("F32");
  const auto refusal = [&](std::vector<PlannedTensor> tensors) {
    return error_of([&] { GgufWriter(folder / "out.gguf", {}, std::move(tensors)); });
  };
  const int64_t big = int64_t{1} << 40;
  EXPECT_EQ(refusal({{"t", f32, {1}}, {"t", f32, {1}}}), "tensor 't': there twice");
  EXPECT_EQ(refusal({{"t", f32, {1, 1, 1, 1, 1}}}), "tensor 't': GGUF holds at most 4 dimensions");
  EXPECT_EQ(refusal({{"t", f32, {big, big}}}), "tensor 't': larger than any file");
  Metadata metadata;
  metadata.set_uint32("general.alignment", 3);
  EXPECT_NE(error_of([&] { gguf_file_bytes(metadata, {}); }), "");
  EXPECT_EQ(folder.names(), "");
}

TEST(GgufWriter, NothingAppearsWithoutCommit) {
  TestFolder folder;
  {
    GgufWriter writer(folder / "out.gguf", {}, {{"t", &format_named("F32"), {2}}});
    writer.append(as_bytes("1234"));
    EXPECT_NE(folder.names(), "");
  }
  EXPECT_EQ(folder.names(), "");
}

}  // namespace
}  // namespace fewbits
