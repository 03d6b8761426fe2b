#include "files/safetensors.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "files/testing.h"

namespace fewbits {
namespace {

constexpr std::string_view kGood = R"({"__metadata__":{"format":"pt"},)"
                                   R"("b":{"dtype":"F16","shape":[2,3],"data_offsets":[4,16]},)"
                                   R"("a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}})";

ParsedFile parse(const std::string& file) {
  return parse_safetensors(as_bytes(file), "m");
}

/// The error of a header above `data_bytes` bytes.
std::string refusal(std::string_view header, size_t data_bytes) {
  const std::string file = safetensors_file(header, data_bytes);
  return error_of([&] { parse(file); });
}

TEST(Safetensors, TensorsInTheOrderOfTheirBytes) {
  const std::string file = safetensors_file(kGood, 16);
  const ParsedFile parsed = parse(file);
  ASSERT_EQ(parsed.tensors.size(), 2u);
  const auto& [scalar, matrix] = std::tie(parsed.tensors[0], parsed.tensors[1]);
  EXPECT_EQ(scalar.name, "a");
  EXPECT_EQ(scalar.view.shape, Shape{});
  EXPECT_EQ(scalar.view.values(), 1);
  EXPECT_EQ(matrix.view.format->name, "F16");
  EXPECT_EQ(matrix.view.shape, (Shape{2, 3}));
  EXPECT_EQ(matrix.view.bytes.data(), as_bytes(file).data() + file.size() - 12);
  EXPECT_TRUE(parsed.metadata.entries().empty());
}

TEST(Safetensors, NoTensorsAndEmptyTensors) {
  EXPECT_EQ(refusal("{}", 0), "");
  EXPECT_EQ(refusal("{} \n", 0), "");
  EXPECT_EQ(refusal(R"({"e":{"dtype":"F32","shape":[0,5],"data_offsets":[0,0]},)"
                    R"("f":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}})",
                    2),
            "");
}

TEST(Safetensors, RefusesBadHeaders) {
  EXPECT_EQ(error_of([] { parse(""); }), "m: not a safetensors file: only 0 bytes");
  EXPECT_EQ(error_of([] { parse("1234567"); }), "m: not a safetensors file: only 7 bytes");
  EXPECT_EQ(error_of([] { parse(raw(uint64_t{3}) + "{}"); }),
            "m: the header has 3 bytes, but the file ends after 2; is it truncated?");
  EXPECT_EQ(error_of([] { parse(raw(UINT64_MAX) + "{}"); }),
            "m: not a safetensors file: its header would have 18446744073709551615 bytes, the "
            "limit is 100000000");
  EXPECT_EQ(refusal("[]", 0), "m: the header is no JSON object");
  EXPECT_EQ(refusal("{", 0).substr(0, 11), "m: bad JSON");
  EXPECT_EQ(refusal(R"({"__metadata__":{"a":1}})", 0),
            "m: __metadata__ must map strings to strings");
  EXPECT_EQ(refusal(R"({"__metadata__":[]})", 0), "m: __metadata__ must map strings to strings");
  EXPECT_EQ(refusal(R"({"a":1,"a":2})", 0), "m: duplicate JSON key 'a'");
}

TEST(Safetensors, LeavesOutPositionIds) {
  EXPECT_EQ(refusal(R"({"e.position_ids":{"dtype":"I64","shape":[1,1],"data_offsets":[0,8]}})", 8),
            "");
  EXPECT_EQ(refusal(R"({"e.position_ids":{"dtype":"I64","shape":[1],"data_offsets":[0,9]}})", 8),
            "m: tensor 'e.position_ids': its bytes 0 to 9 lie outside the 8 bytes of data; is the "
            "file truncated?");
}

TEST(Safetensors, PartsOfQuantizedWeightsAreApart) {
  const std::string file =
      safetensors_file(R"({"c":{"dtype":"I32","shape":[2,1],"data_offsets":[0,8]},)"
                       R"("s":{"dtype":"F16","shape":[2],"data_offsets":[8,12]}})",
                       12);
  const ParsedFile parsed = parse(file);
  ASSERT_EQ(parsed.tensors.size(), 1u);
  ASSERT_EQ(parsed.others.size(), 1u);
  EXPECT_EQ(parsed.others[0].name, "c");
  EXPECT_EQ(parsed.others[0].dtype, "I32");
  EXPECT_EQ(parsed.others[0].shape, (Shape{2, 1}));
  EXPECT_EQ(parsed.others[0].part.bytes.size(), 8u);
  TestFolder folder;
  write_file(folder / "m", file);
  EXPECT_EQ(
      error_of([&] { open_safetensors_file(folder / "m"); }),
      (folder / "m").string() + ": tensor 'c': dtype 'I32' cannot be read; known: F32, F16, BF16");
}

TEST(Safetensors, RefusesBadTensors) {
  const auto tensor = [](std::string_view info) {
    return refusal(fmt::format("{{\"t\":{}}}", info), 8);
  };
  EXPECT_EQ(tensor("3"), "m: tensor 't': a JSON object is expected");
  EXPECT_EQ(tensor(R"({"dtype":"C64","shape":[1],"data_offsets":[0,8]})"),
            "m: tensor 't': dtype 'C64' cannot be read; known: F32, F16, BF16");
  EXPECT_EQ(tensor(R"({"dtype":"F32","data_offsets":[0,8]})"),
            "m: tensor 't': 'shape' must be a list of numbers");
  EXPECT_EQ(tensor(R"({"dtype":"F32","shape":[-1],"data_offsets":[0,8]})"),
            "m: tensor 't': a size in its shape is no whole number below 2^63");
  EXPECT_EQ(tensor(R"({"dtype":"F32","shape":[2.0],"data_offsets":[0,8]})"),
            "m: tensor 't': a size in its shape is no whole number below 2^63");
  EXPECT_EQ(tensor(R"({"dtype":"F32","shape":[2],"data_offsets":[0]})"),
            "m: tensor 't': data_offsets must be two whole numbers");
  EXPECT_EQ(
      tensor(R"({"dtype":"F32","shape":[2],"data_offsets":[8,0]})"),
      "m: tensor 't': its bytes 8 to 0 lie outside the 8 bytes of data; is the file truncated?");
  EXPECT_EQ(
      tensor(R"({"dtype":"F32","shape":[4],"data_offsets":[0,16]})"),
      "m: tensor 't': its bytes 0 to 16 lie outside the 8 bytes of data; is the file truncated?");
  EXPECT_EQ(tensor(R"({"dtype":"F16","shape":[2],"data_offsets":[0,8]})"),
            "m: tensor 't': its shape [2] in F16 contradicts its 8 bytes");
}

TEST(Safetensors, RefusesSizesThatOverflow) {
  const std::string big = std::to_string(int64_t{1} << 62);
  for (const std::string& shape : {big + "," + big, big + ",4,0", "0," + big + "," + big}) {
    const std::string header =
        fmt::format(R"({{"t":{{"dtype":"F32","shape":[{}],"data_offsets":[0,0]}}}})", shape);
    EXPECT_NE(refusal(header, 0), "") << shape;
  }
}

TEST(Safetensors, RefusesHolesAndOverlaps) {
  const auto two = [](std::string_view a, std::string_view b) {
    return refusal(fmt::format(R"({{"a":{{"dtype":"F32","shape":[1],"data_offsets":[{}]}},)"
                               R"("b":{{"dtype":"F32","shape":[1],"data_offsets":[{}]}}}})",
                               a, b),
                   12);
  };
  EXPECT_EQ(two("0,4", "2,6"), "m: tensor 'b' overlaps the one before it");
  EXPECT_EQ(two("0,4", "0,4").substr(0, 10), "m: tensor ");
  EXPECT_EQ(two("0,4", "8,12"), "m: 4 bytes before tensor 'b' belong to none");
  EXPECT_EQ(two("0,4", "4,8"), "m: the last 4 bytes belong to no tensor");
}

TEST(Safetensors, HostileNamesStayInOneLine) {
  const std::string error = refusal("{\"a\\n\\u001b[2J\":3}", 0);
  EXPECT_EQ(error, "m: tensor 'a\\x0a\\x1b[2J': a JSON object is expected");
}

}  // namespace
}  // namespace fewbits
