#pragma once

#include <cstddef>
#include <span>
#include <string_view>

namespace fewbits {

/// Bytes of a file or a part of one, read as text; valid as long as they are.
inline std::string_view text_view(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace fewbits
