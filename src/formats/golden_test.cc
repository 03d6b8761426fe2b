#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "formats/format.h"

// The files come from tests/golden/formats/make.py.
namespace fewbits {
namespace {

template <class T>
std::vector<T> read_golden(const std::string& path) {
  const auto full = std::filesystem::path(FEWBITS_SOURCE_DIR) / "tests/golden/formats" / path;
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
    if (format->name == "F32") continue;
    SCOPED_TRACE(format->name);
    const std::string stem = "decode/" + std::string(format->name);
    const auto blocks = read_golden<std::byte>(stem + ".blocks");
    const auto expected = read_golden<float>(stem + ".values");
    std::vector<float> values(expected.size());
    decode(*format, blocks.data(), static_cast<int64_t>(values.size()), values.data());
    EXPECT_EQ(bits_of(values), bits_of(expected));
  }
}

}  // namespace
}  // namespace fewbits
