#include "files/torch_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "base/error.h"
#include "files/pickle.h"

namespace fewbits {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

template <class Number>
std::string le(Number value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

std::string text(const std::string& value) {
  return std::string("X").append(le(static_cast<uint32_t>(value.size()))).append(value);
}

std::string integer(int32_t value) {
  return std::string("J").append(le(value));
}

std::string tuple(const std::string& items) {
  return std::string("(").append(items).append("t");
}

/// What torch.save writes for one tensor.
std::string tensor(const std::string& type, const std::string& key, int32_t offset,
                   const std::string& sizes, const std::string& strides) {
  const std::string storage =
      tuple(text("storage") + "ctorch\n" + type + "\n" + text(key) + text("cpu") + integer(6)) +
      "Q";
  return "ctorch._utils\n_rebuild_tensor_v2\n" +
         tuple(storage + integer(offset) + tuple(sizes) + tuple(strides) + "\x89" +
               "ccollections\nOrderedDict\n)R") +
         "R";
}

std::string pickle(const std::string& items) {
  return "\x80\x02" + std::string("ccollections\nOrderedDict\n)Rq") + '\0' + "(" + items + "u}b.";
}

/// A zip archive of stored members.
std::string zip(const std::vector<std::pair<std::string, std::string>>& members) {
  std::string out, directory;
  for (const auto& [name, bytes] : members) {
    const auto size = static_cast<uint32_t>(bytes.size());
    const auto name_size = static_cast<uint16_t>(name.size());
    const std::string common = le(uint16_t{0}) + le(uint16_t{0}) + le(uint32_t{0}) +
                               le(uint32_t{0}) + le(size) + le(size) + le(name_size) +
                               le(uint16_t{0});  // flags, method, time, crc, sizes, names
    directory += le(uint32_t{0x02014B50}) + le(uint16_t{0}) + le(uint16_t{0}) + common +
                 std::string(10, '\0') + le(static_cast<uint32_t>(out.size()));
    directory += name;
    out += le(uint32_t{0x04034B50}) + le(uint16_t{0}) + common + name + bytes;
  }
  const auto offset = static_cast<uint32_t>(out.size());
  const auto count = static_cast<uint16_t>(members.size());
  return out + directory + le(uint32_t{0x06054B50}) + std::string(4, '\0') + le(count) + le(count) +
         le(static_cast<uint32_t>(directory.size())) + le(offset) + le(uint16_t{0});
}

std::span<const std::byte> as_bytes(const std::string& text) {
  return std::as_bytes(std::span(text));
}

std::string refusal(const std::string& archive) {
  try {
    parse_torch(as_bytes(archive), "m");
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

std::string archive_of(const std::string& items) {
  return zip({{"a/data.pkl", pickle(items)},
              {"a/byteorder", "little"},
              {"a/data/0", std::string(24, '\1')}});
}

TEST(TorchFile, ReadsAStateDict) {
  const std::string sizes = integer(2) + integer(3), strides = integer(3) + integer(1);
  const std::string archive =
      archive_of(text("w") + tensor("FloatStorage", "0", 0, sizes, strides) + text("half") +
                 tensor("HalfStorage", "0", 2, "K\x05", "K\x01") + text("ids") +
                 tensor("LongStorage", "0", 0, "K\x01", "K\x01") + text("step") + integer(7));
  const ParsedFile file = parse_torch(as_bytes(archive), "m");
  ASSERT_EQ(file.tensors.size(), 2u);
  EXPECT_EQ(file.tensors[0].name, "w");
  EXPECT_EQ(file.tensors[0].view.format->name, "F32");
  EXPECT_THAT(file.tensors[0].view.shape, ElementsAre(2, 3));
  EXPECT_EQ(file.tensors[0].view.bytes.size(), 24u);
  EXPECT_EQ(file.tensors[1].view.format->name, "F16");
  EXPECT_EQ(file.tensors[1].view.bytes.data() - file.tensors[0].view.bytes.data(), 4);
}

TEST(TorchFile, RunsNoCode) {
  const auto error = refusal(archive_of(text("w") + "cos\nsystem\n" + tuple(text("ls")) + "R"));
  EXPECT_EQ(error,
            "m: pickle: names 'os.system', which is not needed for tensors and could be anybody's "
            "code");
  EXPECT_THAT(refusal(archive_of(text("w") + "i")), HasSubstr("opcode 0x69"));
  EXPECT_THAT(refusal(archive_of(text("w") + "ctorch\nFloatStorage\n)R")), HasSubstr("nothing"));
}

TEST(TorchFile, RefusesBrokenTensors) {
  const auto with = [](const std::string& value) { return refusal(archive_of(text("w") + value)); };
  EXPECT_THAT(with(tensor("FloatStorage", "0", 1, "K\x06", "K\x01")),
              HasSubstr("outside its storage"));
  EXPECT_THAT(with(tensor("FloatStorage", "1", 0, "K\x06", "K\x01")), HasSubstr("'1' is missing"));
  EXPECT_THAT(with(tensor("FloatStorage", "0", 0, "K\x02K\x02", "K\x01K\x02")),
              HasSubstr("row by row"));
  EXPECT_THAT(with(tensor("DoubleStorage", "0", 0, "K\x01", "K\x01")), HasSubstr("DoubleStorage"));
  EXPECT_THAT(with("h\x09"), HasSubstr("never built"));
  EXPECT_THAT(refusal("PK"), HasSubstr("no zip archive"));
  EXPECT_THAT(refusal(zip({{"a/x", "y"}})), HasSubstr("no data.pkl"));
  const std::string good = archive_of(text("w") + tensor("FloatStorage", "0", 0, "K\x06", "K\x01"));
  EXPECT_EQ(refusal(good), "");
  for (size_t size = 0; size < good.size(); ++size) EXPECT_NE(refusal(good.substr(0, size)), "");
}

/// Any one byte changed: tensors inside the bytes or an Error.
TEST(TorchFile, AnyByteMayBeWrong) {
  const std::string good = archive_of(text("w") + tensor("FloatStorage", "0", 0, "K\x06", "K\x01"));
  for (size_t i = 0; i < good.size(); ++i) {
    for (const int change : {1, 0x80, 0xFF}) {
      std::string bad = good;
      bad[i] = static_cast<char>(bad[i] ^ change);
      refusal(bad);
    }
  }
}

}  // namespace
}  // namespace fewbits
