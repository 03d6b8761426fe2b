#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "base/source_dir.h"
#include "formats/format.h"

// The files come from tests/golden/formats/make.py.
namespace fewbits {
namespace {

template <class T>
std::vector<T> read_golden(const std::string& path) {
  const auto full = source_dir() / "tests/golden/formats" / path;
  std::ifstream file(full, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  EXPECT_FALSE(bytes.empty()) << full;
  std::vector<T> out(bytes.size() / sizeof(T));
  std::memcpy(out.data(), bytes.data(), out.size() * sizeof(T));
  return out;
}

std::vector<uint32_t> bits_of(const std::vector<float>& values) {
  std::vector<uint32_t> bits(values.size());
  std::memcpy(bits.data(), values.data(), values.size() * sizeof(float));
  return bits;
}

TEST(Golden, DecodersAreBitExact) {
  for (const Format* format : formats()) {
    if (format->name == "F32" || format->gguf_type < 0) continue;
    SCOPED_TRACE(format->name);
    const std::string stem = "decode/" + std::string(format->name);
    const auto blocks = read_golden<std::byte>(stem + ".blocks");
    const auto expected = read_golden<float>(stem + ".values");
    std::vector<float> values(expected.size());
    decode(*format, blocks.data(), static_cast<int64_t>(values.size()), values.data());
    EXPECT_EQ(bits_of(values), bits_of(expected));
  }
}

/// Number of blocks that differ, and says where the first is.
int64_t compare_blocks(const Format& format, const std::vector<std::byte>& ours,
                       const std::vector<std::byte>& expected) {
  EXPECT_EQ(ours.size(), expected.size());
  const auto size = static_cast<size_t>(format.block_bytes);
  int64_t wrong = 0;
  for (size_t at = 0; at + size <= expected.size(); at += size) {
    if (std::memcmp(ours.data() + at, expected.data() + at, size) == 0) continue;
    if (wrong++ == 0) ADD_FAILURE() << "block " << at / size << " differs";
  }
  return wrong;
}

TEST(Golden, ReferenceEncodersGiveTheSameBytes) {
  constexpr int64_t kColumns = 768;
  const auto input = read_golden<float>("encode/input");
  const auto importance = read_golden<float>("encode/importance");
  const auto rows = static_cast<int64_t>(input.size()) / kColumns;
  for (const Format* format : formats()) {
    if (!format->encode_reference) continue;
    for (const bool weighted : {false, true}) {
      SCOPED_TRACE(std::string(format->name) + (weighted ? ".weighted" : ".plain"));
      const auto expected = read_golden<std::byte>("encode/" + std::string(format->name) +
                                                   (weighted ? ".weighted" : ".plain"));
      const int64_t columns = format->block_values == kMaxBlockValues ? kColumns : kColumns - 32;
      const int64_t stride = row_bytes(*format, columns);
      std::vector<std::byte> ours(static_cast<size_t>(rows * stride));
      for (int64_t row = 0; row < rows; ++row) {
        encode_rows(*format, input.data() + row * kColumns, 1, columns,
                    weighted ? importance.data() : nullptr, Search::kReference,
                    ours.data() + row * stride);
      }
      EXPECT_EQ(compare_blocks(*format, ours, expected), 0);
    }
  }
}

}  // namespace
}  // namespace fewbits
