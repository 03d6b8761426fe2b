#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"

// What the tests of this layer share.
namespace fewbits {

/// A fresh folder that goes with the test.
class TestFolder {
 public:
  TestFolder();
  TestFolder(const TestFolder&) = delete;
  ~TestFolder();

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(std::string_view name) const { return path_ / name; }

  /// Names in it, hidden ones too, sorted, joined by blanks.
  std::string names() const;

 private:
  std::filesystem::path path_;
};

void write_file(const std::filesystem::path& path, std::string_view text);
std::string read_file(const std::filesystem::path& path);

inline std::span<const std::byte> as_bytes(std::string_view text) {
  return std::as_bytes(std::span(text));
}

/// The message of the Error that `act` throws; "" where it throws none.
std::string error_of(const std::function<void()>& act);

/// A number's little-endian bytes.
template <class Number>
std::string raw(Number value) {
  return {reinterpret_cast<const char*>(&value), sizeof(value)};
}

/// length + JSON + data
std::string safetensors_file(std::string_view header, size_t data_bytes);

}  // namespace fewbits
