#include "files/gguf.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstring>

#include "files/testing.h"

// Files written by hand, byte by byte, so that reader and writer cannot agree on a common mistake.
namespace fewbits {
namespace {

std::string text(std::string_view string) {
  return raw(uint64_t{string.size()}) + std::string(string);
}

std::string entry(std::string_view key, ValueType type, std::string_view value) {
  return text(key) + raw(static_cast<uint32_t>(type)) + std::string(value);
}

struct Info {
  std::string name = "t";
  std::vector<uint64_t> sizes = {8};  // innermost first
  uint32_t type = 0;                  // F32
  uint64_t offset = 0;
};

std::string info(const Info& info) {
  std::string bytes = text(info.name) + raw(static_cast<uint32_t>(info.sizes.size()));
  for (const uint64_t size : info.sizes) bytes += raw(size);
  return bytes + raw(info.type) + raw(info.offset);
}

struct File {
  uint32_t version = 3;
  std::vector<std::string> entries = {};
  std::vector<Info> infos = {};
  size_t data_bytes = 32;
  size_t alignment = 32;
};

std::string bytes_of(const File& file) {
  std::string bytes = "GGUF" + raw(file.version) + raw(uint64_t{file.infos.size()}) +
                      raw(uint64_t{file.entries.size()});
  for (const std::string& entry : file.entries) bytes += entry;
  for (const Info& each : file.infos) bytes += info(each);
  while (bytes.size() % file.alignment != 0) bytes += '\0';
  return bytes + std::string(file.data_bytes, '\1');
}

std::string refusal_of_bytes(const std::string& bytes) {
  return error_of([&] { parse_gguf(as_bytes(bytes), "m"); });
}

std::string refusal(const File& file) {
  return refusal_of_bytes(bytes_of(file));
}

TEST(GgufReader, BothVersions) {
  for (const uint32_t version : {2u, 3u}) {
    const std::string bytes =
        bytes_of({.version = version,
                  .entries = {entry("k", ValueType::kUint16, raw(uint16_t{9}))},
                  .infos = {{.sizes = {4, 2}}}});
    const ParsedFile file = parse_gguf(as_bytes(bytes), "m");
    EXPECT_EQ(file.metadata.integer("k"), 9);
    ASSERT_EQ(file.tensors.size(), 1u);
    EXPECT_EQ(file.tensors[0].view.shape, (Shape{2, 4}));
    EXPECT_EQ(file.tensors[0].view.bytes.data(), as_bytes(bytes).data() + bytes.size() - 32);
  }
}

TEST(GgufReader, HarmlessEmptiness) {
  EXPECT_EQ(refusal({.data_bytes = 0}), "");
  EXPECT_EQ(refusal({.entries = {entry("", ValueType::kString, text(""))}}), "");
  const std::string nothing = raw(static_cast<uint32_t>(ValueType::kString)) + raw(uint64_t{0});
  EXPECT_EQ(refusal({.entries = {entry("a", ValueType::kArray, nothing)}}), "");
  EXPECT_EQ(refusal({.infos = {{.sizes = {}}}}), "");
  EXPECT_EQ(refusal({.infos = {{.sizes = {0, 3}}, {.name = "u"}}}), "");
}

TEST(GgufReader, RefusesOtherFilesAndVersions) {
  EXPECT_EQ(refusal_of_bytes(""), "m: not a GGUF file (it does not begin with 'GGUF')");
  EXPECT_EQ(refusal_of_bytes("GGUF"), "m: not a GGUF file (it does not begin with 'GGUF')");
  EXPECT_EQ(refusal_of_bytes("PK\3\4....."), "m: not a GGUF file (it does not begin with 'GGUF')");
  EXPECT_EQ(
      refusal({.version = 1}),
      "m: GGUF version 1, but only 2 to 3 can be read; convert the model again with a current "
      "llama.cpp");
  EXPECT_NE(refusal({.version = 4}), "");
  EXPECT_EQ(
      refusal({.version = __builtin_bswap32(3)}),
      "m: a big-endian GGUF (version 3); only little-endian files can be read: convert it with "
      "gguf_convert_endian.py of llama.cpp");
}

TEST(GgufReader, RefusesTruncationAtEveryByte) {
  const std::string bytes =
      bytes_of({.entries = {entry("k", ValueType::kString, text("value"))}, .infos = {{}}});
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_NE(refusal_of_bytes(bytes.substr(0, size)), "") << size;
  }
}

TEST(GgufReader, RefusesCountsThatTheFileCannotHold) {
  std::string bytes = bytes_of({});
  std::memset(bytes.data() + 8, 0xff, 8);
  EXPECT_EQ(refusal_of_bytes(bytes),
            "m: claims 18446744073709551615 tensors, more than the file can hold; it is damaged or "
            "truncated");
  bytes = bytes_of({});
  std::memset(bytes.data() + 16, 0x7f, 8);
  EXPECT_NE(refusal_of_bytes(bytes).find("metadata entries, more than"), std::string::npos);
  const std::string array = raw(static_cast<uint32_t>(ValueType::kUint8)) + raw(uint64_t{1} << 40);
  EXPECT_NE(refusal({.entries = {entry("a", ValueType::kArray, array)}}).find("array elements"),
            std::string::npos);
  EXPECT_NE(refusal({.entries = {raw(UINT64_MAX)}}).find("beyond the end"), std::string::npos);
}

TEST(GgufReader, RefusesBadMetadata) {
  const std::string one = raw(uint32_t{1});
  EXPECT_EQ(refusal({.entries = {entry("k", ValueType::kUint32, one),
                                 entry("k", ValueType::kUint32, one)}}),
            "m: metadata key 'k' is there twice");
  EXPECT_EQ(refusal({.entries = {entry("k", static_cast<ValueType>(13), one)}}),
            "m: metadata 'k' has the unknown type 13");
  EXPECT_EQ(refusal({.entries = {entry("k", ValueType::kBool, "\2")}}),
            "m: metadata 'k' is a bool of value 2; 0 or 1 expected");
  EXPECT_EQ(refusal({.entries = {entry("k", ValueType::kUint64, raw(uint64_t{1} << 63))}}),
            "m: metadata 'k' is 9223372036854775808, above the limit of 2^63 - 1");
  const std::string nested = raw(static_cast<uint32_t>(ValueType::kArray)) + raw(uint64_t{0});
  EXPECT_EQ(refusal({.entries = {entry("k", ValueType::kArray, nested)}}),
            "m: metadata 'k' is an array of arrays, which no model needs");
}

TEST(GgufReader, HonoursAlignment) {
  const auto with_alignment = [](uint32_t alignment, uint64_t offset) {
    return refusal({.entries = {entry("general.alignment", ValueType::kUint32, raw(alignment))},
                    .infos = {{.offset = offset}},
                    .data_bytes = 200,
                    .alignment = 256});
  };
  EXPECT_EQ(with_alignment(8, 40), "");
  EXPECT_EQ(with_alignment(64, 128), "");
  EXPECT_EQ(with_alignment(64, 32),
            "m: tensor 't' lies at offset 32, which is no multiple of the alignment 64");
  for (const uint32_t bad : {0u, 1u, 4u, 24u, 1u << 31}) {
    EXPECT_NE(with_alignment(bad, 0).find("general.alignment is"), std::string::npos) << bad;
  }
  EXPECT_NE(refusal({.entries = {entry("general.alignment", ValueType::kString, text("32"))}}), "");
}

TEST(GgufReader, NamesTypesItCannotRead) {
  const std::string known = "which cannot be read; known: BF16, F16, F32, IQ1_M, ";
  EXPECT_TRUE(
      refusal({.infos = {{.type = 24}}}).starts_with("m: tensor 't' is stored as I8, " + known));
  EXPECT_NE(refusal({.infos = {{.type = 26}}}).find("as I32, " + known), std::string::npos);
  EXPECT_NE(refusal({.infos = {{.type = 4711}}}).find("as type 4711, " + known), std::string::npos);
}

TEST(GgufReader, RefusesBadTensors) {
  EXPECT_EQ(refusal({.infos = {{}, {}}}), "m: tensor 't' is there twice");
  EXPECT_EQ(refusal({.infos = {{.sizes = {1, 1, 1, 1, 8}}}}),
            "m: tensor 't' has 5 dimensions; at most 4 are possible");
  EXPECT_EQ(refusal({.infos = {{.sizes = {UINT64_MAX}}}}),
            "m: tensor 't' has a size above 2^63 - 1");
  EXPECT_EQ(refusal({.infos = {{.sizes = {33}, .type = 8}}}),
            "m: tensor 't' has rows of 33 values, which are no whole blocks of Q8_0 (32 values)");
  const uint64_t big = uint64_t{1} << 61;
  EXPECT_EQ(refusal({.infos = {{.sizes = {big}}}}),
            "m: tensor 't' has more bytes than any file: 2305843009213693952 values");
  EXPECT_NE(refusal({.infos = {{.sizes = {0, big, big}}}}).find("more bytes"), std::string::npos);
  EXPECT_NE(refusal({.infos = {{.sizes = {big, 4}, .type = 10}}}).find("more bytes"),
            std::string::npos);
}

TEST(GgufReader, RefusesBadPlaces) {
  EXPECT_EQ(
      refusal({.infos = {{.offset = 32}}}),
      "m: tensor 't' of 32 bytes at offset 32 ends beyond the end of the file (96 bytes); is it "
      "truncated?");
  EXPECT_NE(refusal({.infos = {{.offset = UINT64_MAX - 31}}}).find("outside any file"),
            std::string::npos);
  EXPECT_NE(refusal({.infos = {{.offset = uint64_t{INT64_MAX} - 31}}}).find("beyond the end"),
            std::string::npos);
  EXPECT_EQ(refusal({.infos = {{}, {.name = "u"}}}), "m: tensors 't' and 'u' overlap");
  EXPECT_EQ(
      refusal({.infos = {{.name = "late", .offset = 32}, {.name = "early"}}, .data_bytes = 64}),
      "");
}

}  // namespace
}  // namespace fewbits
