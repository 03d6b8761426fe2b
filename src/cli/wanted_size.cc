#include "cli/wanted_size.h"

#include <fmt/format.h>

#include <cctype>
#include <cmath>
#include <cstdio>
#include <string_view>

#include "base/error.h"

namespace fewbits::cli {
namespace {

constexpr const char* kMixOutsideLayers = "Q4_K_M";

}  // namespace

int64_t parse_bytes(std::string_view option, const std::string& text) {
  constexpr std::string_view kUnits = "BKMGT";
  double number = 0;
  int length = 0;
  char unit = 'B';
  const int fields = std::sscanf(text.c_str(), "%lf%n%c", &number, &length, &unit);
  const size_t power = kUnits.find(static_cast<char>(std::toupper(unit)));
  const bool ends = static_cast<size_t>(length) + (fields == 2 ? 1 : 0) == text.size();
  const double bytes = number * std::pow(1000.0, static_cast<double>(power));
  if (fields < 1 || power == std::string_view::npos || !ends || !(bytes >= 1 && bytes < 1e18)) {
    throw Error(fmt::format("{}: '{}' is no size; give bytes, as in 95M or 4.2G", option, text));
  }
  return static_cast<int64_t>(bytes);
}

namespace {

/// "4.75bpw"; nothing where `to` is something else.
std::optional<double> parse_bits(const std::string& to) {
  double bits = 0;
  int length = 0;
  if (std::sscanf(to.c_str(), "%lfbpw%n", &bits, &length) != 1) return std::nullopt;
  if (length == 0 || static_cast<size_t>(length) != to.size()) return std::nullopt;
  if (bits > 0.5 && bits <= 32) return bits;
  throw Error(fmt::format("--to: {} bits per weight cannot be had", bits));
}

}  // namespace

WantedSize::WantedSize(const std::string& size, std::string& to) : bits_(parse_bits(to)) {
  if (!size.empty()) bytes_ = parse_bytes("--size", size);
  if (bytes_ && bits_) throw Error("quantize: give --size or bits per weight, not both");
  if (!given() && to.empty()) throw Error("quantize: give --to FORMAT or --size BYTES");
  if (bits_ || to.empty()) to = kMixOutsideLayers;
}

int64_t WantedSize::bytes(int64_t parameters) const {
  return bytes_ ? *bytes_ : static_cast<int64_t>(*bits_ * static_cast<double>(parameters) / 8);
}

}  // namespace fewbits::cli
