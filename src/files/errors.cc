#include "files/errors.h"

#include <fmt/format.h>

namespace fewbits {
namespace {

constexpr size_t kLongest = 80;

bool printable(char c) {
  return c >= ' ' && c <= '~';
}

}  // namespace

std::string quote_name(std::string_view name) {
  std::string text = "'";
  for (const char c : name.substr(0, kLongest)) {
    if (printable(c)) {
      text += c;
    } else {
      text += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    }
  }
  return text + (name.size() > kLongest ? "...'" : "'");
}

}  // namespace fewbits
