#include "files/layouts/join.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>

#include "files/layouts/layout.h"
#include "files/safetensors.h"
#include "files/testing.h"
#include "formats/fp8_tiles.h"

// That whole models decode to the same values in numpy is checked by tests/interop/folders.py.
namespace fewbits {
namespace {

/// A file of tensors that lie one after the other.
std::string file_of(const std::vector<SafetensorsEntry>& entries, std::string_view data) {
  Json header = Json::object();
  int64_t offset = 0;
  for (const SafetensorsEntry& entry : entries) {
    header[entry.name] = {{"dtype", entry.dtype},
                          {"shape", entry.shape},
                          {"data_offsets", {offset, offset + entry.bytes}}};
    offset += entry.bytes;
  }
  return raw(uint64_t{header.dump().size()}) + header.dump() + std::string(data);
}

/// What join_tensors makes of a file; the bytes live as long as this.
class Joined {
 public:
  Joined(std::string file, const Json& config) : file_(std::move(file)) {
    ParsedFile parsed = parse_safetensors(as_bytes(file_), "f");
    store_ = TensorStore({}, std::move(parsed.tensors), {}, std::move(parsed.others));
    scheme_ = join_tensors(store_, config, "c");
  }
  const ActivationScheme& scheme() const { return scheme_; }
  const TensorStore& store() const { return store_; }

  std::vector<float> values(std::string_view name) const {
    const StoredTensor& tensor = *store_.find(name);
    const int64_t columns = tensor.view.columns();
    std::vector<float> all(static_cast<size_t>(tensor.view.values()));
    std::vector<std::byte> scratch;
    for (int64_t row = 0; row < tensor.view.rows(); ++row) {
      decode(*tensor.view.format, tensor.row(row, scratch).data(), columns,
             all.data() + row * columns);
    }
    return all;
  }

 private:
  std::string file_;
  TensorStore store_;
  ActivationScheme scheme_;
};

std::string refusal(const std::vector<SafetensorsEntry>& entries, const Json& config) {
  int64_t bytes = 0;
  for (const SafetensorsEntry& entry : entries) bytes += entry.bytes;
  return error_of(
      [&] { Joined(file_of(entries, std::string(static_cast<size_t>(bytes), '\0')), config); });
}

/// Every format with all that can be said of inputs.
std::vector<std::pair<std::string, std::optional<Inputs>>> kept_by(const Layout& layout) {
  std::vector<std::pair<std::string, std::optional<Inputs>>> all;
  for (const std::string& name : formats_of(layout)) {
    all.emplace_back(name, std::nullopt);
    for (const Inputs inputs : {Inputs::kFloats, Inputs::kDynamic, Inputs::kStatic}) {
      if (layout.says != nullptr && layout.says(format_named(name), inputs))
        all.emplace_back(name, inputs);
    }
  }
  return all;
}

TEST(Layouts, WhatEachWritesItReads) {
  constexpr int64_t kRows = 32, kColumns = 256;
  std::vector<float> values(static_cast<size_t>(kRows * kColumns));
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = std::sin(static_cast<float>(i * i % 1009)) / 16;
  for (const Layout* layout : layouts()) {
    if (layout->holds == nullptr) continue;
    for (const auto& [name, inputs] : kept_by(*layout)) {
      SCOPED_TRACE(
          fmt::format("{} {} {}", layout->name, name, inputs ? static_cast<int>(*inputs) : -1));
      const Format& format = format_named(name);
      const FolderScheme scheme{.format = format, .inputs = inputs};
      std::vector<std::byte> rows(static_cast<size_t>(kRows * row_bytes(format, kColumns)));
      if (tile_rows(format) > 1) {
        encode_tiles(format, values.data(), kRows, kColumns, rows.data());
      } else {
        encode_rows(format, values.data(), kRows, kColumns, nullptr, Search::kBest, rows.data());
      }
      const auto tensor = layout->tensor(scheme, "m", kRows, kColumns);
      std::string data;
      const auto add = [&](std::span<const std::byte> bytes) {
        data.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
      };
      add(tensor->append_rows(rows));
      add(tensor->rest());
      const Joined joined(file_of(tensor->entries(), data), layout->config(scheme, {}));
      ASSERT_NE(joined.store().find("m.weight"), nullptr);
      EXPECT_EQ(joined.store().tensors().size(), 1u);
      const ActivationScheme& scheme_read = joined.scheme();
      EXPECT_EQ(scheme_read.inputs.unknown, "");
      if (inputs) {
        EXPECT_EQ(scheme_read.inputs.format == nullptr, *inputs == Inputs::kFloats);
        EXPECT_EQ(scheme_read.input_scales.size(), *inputs == Inputs::kStatic ? 1u : 0u);
      }
      // A narrow range shows in no tensor: it is one of codes that are not there.
      const bool narrow = name.ends_with("_narrow");
      EXPECT_TRUE(narrow || joined.store().find("m.weight")->view.format == &format);
      std::vector<float> expected(values.size());
      decode_rows(format, rows.data(), kRows, kColumns, expected.data());
      EXPECT_EQ(joined.values("m.weight"), expected);
    }
  }
}

/// Rows come with their columns in another order than the weight has.
TEST(Layouts, GroupsInTheOrderOfUseAreReadBack) {
  constexpr int64_t kRows = 32, kColumns = 256;
  std::vector<float> values(static_cast<size_t>(kRows * kColumns));
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = std::sin(static_cast<float>(i * i % 1009)) / 16;
  std::vector<int32_t> columns(static_cast<size_t>(kColumns));
  for (size_t i = 0; i < columns.size(); ++i) columns[i] = static_cast<int32_t>(i * 77 % kColumns);
  for (const Layout* layout : layouts()) {
    if (!layout->by_use) continue;
    SCOPED_TRACE(layout->name);
    const Format& format = format_named("int4_g128");
    const FolderScheme scheme{.format = format, .by_use = true};
    std::vector<std::byte> rows(static_cast<size_t>(kRows * row_bytes(format, kColumns)));
    encode_rows(format, values.data(), kRows, kColumns, nullptr, Search::kBest, rows.data());
    const auto tensor = layout->tensor(scheme, "m", kRows, kColumns);
    tensor->set_columns(columns);
    const std::span<const std::byte> codes = tensor->append_rows(rows);
    std::string data(reinterpret_cast<const char*>(codes.data()), codes.size());
    const std::vector<std::byte> rest = tensor->rest();
    data.append(reinterpret_cast<const char*>(rest.data()), rest.size());
    const Joined joined(file_of(tensor->entries(), data), layout->config(scheme, {}));
    std::vector<float> decoded(values.size()), expected(values.size());
    decode_rows(format, rows.data(), kRows, kColumns, decoded.data());
    for (size_t i = 0; i < decoded.size(); ++i)
      expected[i / kColumns * kColumns + static_cast<size_t>(columns[i % kColumns])] = decoded[i];
    EXPECT_EQ(joined.values("m.weight"), expected);
  }
}

/// Columns 1, 2 and 4, 5 of eight are there.
TEST(Layouts, WhatABitmaskLeavesOutIsZero) {
  const Json config = {{"quant_method", "compressed-tensors"}};
  const auto folder = [](const std::string& mask, int64_t columns) {
    return file_of({{"a.compressed", "I8", {1, 4}, 4},
                    {"a.weight_scale", "F32", {1, 1}, 4},
                    {"a.bitmask", "U8", {1, 1}, 1},
                    {"a.shape", "I64", {2, 1}, 16}},
                   "\x01\x02\xff\xfe" + raw(0.5f) + mask + raw(int64_t{1}) + raw(columns));
  };
  const Joined joined(folder("\x36", 8), config);
  EXPECT_EQ(joined.values("a.weight"), (std::vector<float>{0, 0.5f, 1, 0, -0.5f, -1, 0, 0}));
  EXPECT_EQ(error_of([&] { Joined(folder("\x37", 8), config); }),
            "c: tensor 'a.bitmask': row 0 has 5 bits, but must have 4");
  EXPECT_EQ(error_of([&] { Joined(folder("\x36", 6), config); }),
            "c: tensor 'a.shape': says 1 x 6, but there are codes of 1 x 8");
}

/// A layer of one value in E4M3 with scales beside it.
Joined with_scales(float input, const Json& inputs) {
  const std::string data(1, '\x38');
  return Joined(file_of({{"m.q_proj.weight", "F8_E4M3", {1, 1}, 1},
                         {"m.q_proj.weight_scale", "F32", {1}, 4},
                         {"m.q_proj.input_scale", "F32", {1}, 4},
                         {"m.k_scale", "F32", {1}, 4},
                         {"m.v_scale", "F32", {}, 4}},
                        data + raw(1.0f) + raw(input) + raw(0.5f) + raw(2.0f)),
                {{"quant_method", "compressed-tensors"},
                 {"config_groups", {{"group_0", {{"input_activations", inputs}}}}}});
}

TEST(Layouts, ScalesOfInputsAndCacheAreKept) {
  Json inputs = {{"num_bits", 8}, {"type", "float"}, {"strategy", "tensor"}, {"dynamic", false}};
  const Joined joined = with_scales(0.25f, inputs);
  const ActivationScheme& scheme = joined.scheme();
  EXPECT_EQ(scheme.inputs.format->name, "fp8");
  EXPECT_TRUE(scheme.inputs.is_static);
  EXPECT_EQ(scheme.input_scales.at("m.q_proj"), 0.25f);
  EXPECT_EQ(scheme.key_scales.at("m"), 0.5f);
  EXPECT_EQ(scheme.value_scales.at("m"), 2.0f);
  for (const float bad : {0.0f, 1e-42f, -1.0f, NAN, INFINITY}) {
    EXPECT_EQ(error_of([&] { with_scales(bad, inputs); }),
              "c: tensor 'm.q_proj.input_scale': must be a positive number");
  }
  inputs["symmetric"] = false;
  EXPECT_NE(with_scales(0, inputs).scheme().inputs.unknown, "") << "and the scale is not read";
  EXPECT_EQ(with_scales(0, nullptr).scheme().inputs.format, nullptr);
}

/// 2 x 4 codes of E4M3: 1, 2, 4, 8 and their negatives; a scale for each pair of columns.
TEST(Layouts, ScalesOfTilesMultiply) {
  const std::string data = "\x38\x40\x48\x50\xb8\xc0\xc8\xd0" + raw(0.5f) + raw(3.0f);
  const Joined joined(
      file_of({{"a.weight", "F8_E4M3", {2, 4}, 8}, {"a.weight_scale_inv", "F32", {1, 2}, 8}}, data),
      {{"quant_method", "fp8"}, {"weight_block_size", {2, 2}}});
  EXPECT_EQ(joined.values("a.weight"), (std::vector<float>{0.5f, 1, 12, 24, -0.5f, -1, -12, -24}));
}

/// Four inputs in groups 1, 0, 1, 0, eight outputs; only the first has codes that are not 0.
TEST(Layouts, GroupsInTheOrderOfActivations) {
  std::string codes(32, '\0'), scales, indices;
  codes[0] = '\x21';
  codes[1] = '\x43';
  for (const uint16_t half : {uint16_t{0x3c00}, uint16_t{0x4000}}) {  // 1, 2
    for (int i = 0; i < 8; ++i) scales += raw(half);
  }
  for (const int32_t group : {1, 0, 1, 0, 1, 0, 1, 0}) indices += raw(group);
  const Joined joined(file_of({{"a.qweight", "I32", {1, 8}, 32},
                               {"a.qzeros", "I32", {2, 1}, 8},
                               {"a.scales", "F16", {2, 8}, 32},
                               {"a.g_idx", "I32", {8}, 32}},
                              codes + std::string(8, '\0') + scales + indices),
                      {{"quant_method", "gptq"}, {"bits", 4}, {"group_size", 4}});
  EXPECT_EQ(joined.store().find("a.weight")->view.format->name, "F32");
  const auto values = joined.values("a.weight");
  // Zero points are stored less one: they are 1.
  EXPECT_EQ(std::vector<float>(values.begin(), values.begin() + 8),
            (std::vector<float>{0, 1, 4, 3, -2, -1, -2, -1}));
}

TEST(Layouts, RefusesWhatContradictsItself) {
  const Json packed = {{"quant_method", "compressed-tensors"}};
  EXPECT_EQ(refusal({}, {{"quant_method", "new"}}).substr(0, 48),
            "c: quant_method 'new' is unknown; known: awq, co");
  EXPECT_EQ(refusal({{"a.weight_packed", "I32", {2, 4}, 32}}, packed),
            "c: tensor 'a.weight_scale' is missing");
  EXPECT_EQ(refusal({{"a.other", "I32", {2}, 8}}, packed),
            "c: tensor 'a.other' in 'I32' is no part of a weight that compressed-tensors would "
            "split so");
  EXPECT_EQ(
      refusal({{"a.weight", "F8_E4M3", {2, 4}, 8}, {"a.weight_scale", "F32", {3, 1}, 12}}, packed),
      "c: tensor 'a.weight_scale': its 3 x 1 scales do not fit 2 x 4 weights in tiles of 128 "
      "x 128");
  const std::vector<SafetensorsEntry> gptq = {{"a.qweight", "I32", {1, 8}, 32},
                                              {"a.qzeros", "I32", {1, 1}, 4},
                                              {"a.scales", "F16", {1, 8}, 16}};
  EXPECT_EQ(refusal(gptq, {{"quant_method", "gptq"}, {"bits", 5}}),
            "c: 5 bits cannot be read; known: 2, 3, 4, 8");
  EXPECT_EQ(refusal(gptq, {{"quant_method", "gptq"}, {"bits", 4}, {"checkpoint_format", "marlin"}}),
            "c: checkpoint_format 'marlin' cannot be read; known: gptq, gptq_v2");
  EXPECT_EQ(refusal(gptq, {{"quant_method", "awq"}, {"bits", 4}, {"version", "gemv"}}),
            "c: version 'gemv' cannot be read; known: gemm");
}

}  // namespace
}  // namespace fewbits
