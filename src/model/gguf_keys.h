#pragma once

#include <fmt/format.h>

#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "files/metadata.h"

namespace fewbits {

/// The ARCH.* keys of one GGUF.
class GgufKeys {
 public:
  GgufKeys(const Metadata& metadata, std::string_view prefix, std::string_view where)
      : metadata_(metadata), prefix_(prefix), where_(where) {}

  std::string name(std::string_view key) const { return fmt::format("{}.{}", prefix_, key); }

  int64_t integer(std::string_view key) const { return need(metadata_.integer(name(key)), key); }
  double number(std::string_view key) const { return need(metadata_.number(name(key)), key); }
  int64_t integer_or(std::string_view key, int64_t fallback) const {
    return metadata_.integer(name(key)).value_or(fallback);
  }
  double number_or(std::string_view key, double fallback) const {
    return metadata_.number(name(key)).value_or(fallback);
  }
  std::optional<double> optional_number(std::string_view key) const {
    return metadata_.number(name(key));
  }
  std::string string_or(std::string_view key, std::string fallback) const {
    return metadata_.string(name(key)).value_or(std::move(fallback));
  }

  /// For keys that restate what other keys say.
  void demand(std::string_view key, int64_t wanted) const {
    const int64_t found = integer_or(key, wanted);
    if (found == wanted) return;
    throw Error(
        fmt::format("{}: '{}' is {}, only {} is supported", where_, name(key), found, wanted));
  }

 private:
  template <class T>
  T need(std::optional<T> value, std::string_view key) const {
    if (!value) throw Error(fmt::format("{}: metadata key '{}' is missing", where_, name(key)));
    return *value;
  }

  const Metadata& metadata_;
  std::string_view prefix_;
  std::string_view where_;
};

}  // namespace fewbits
