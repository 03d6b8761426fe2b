#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <type_traits>

namespace fewbits {

/// Reads little-endian values one after another and never past the end: where bytes are missing,
/// the caller's `on_end(needed)` is called, which must throw.
template <class OnEnd>
class ByteReader {
 public:
  ByteReader(std::span<const std::byte> bytes, OnEnd on_end) : bytes_(bytes), on_end_(on_end) {}

  int64_t position() const { return position_; }
  int64_t left() const { return static_cast<int64_t>(bytes_.size()) - position_; }

  template <class Number>
  Number read() {
    static_assert(std::is_arithmetic_v<Number>);
    Number value;
    std::memcpy(&value, take(sizeof(Number)).data(), sizeof(Number));
    return value;
  }

  /// `size` is as the file says it, so it may be anything.
  std::span<const std::byte> take(uint64_t size) {
    if (size > static_cast<uint64_t>(left())) on_end_(size);
    const auto part = bytes_.subspan(static_cast<size_t>(position_), static_cast<size_t>(size));
    position_ += static_cast<int64_t>(size);
    return part;
  }

 private:
  std::span<const std::byte> bytes_;
  OnEnd on_end_;
  int64_t position_ = 0;
};

}  // namespace fewbits
