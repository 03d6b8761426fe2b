#pragma once

#include <algorithm>
#include <string_view>
#include <vector>

#include "model/templates/runtime.h"

namespace fewbits::templates {

/// The arguments of a built-in, in the order of its signature: "width? first?" has two that may be
/// left out, "..." takes any. Throws Error for arguments that are too many, missing, unknown or
/// given twice.
class Bound {
 public:
  Bound(Runtime& runtime, std::string_view callee, std::string_view signature,
        const Arguments& arguments);

  const Arguments& all() const { return all_; }

  /// Null where it was left out.
  const Value* operator[](size_t index) const { return values_[index]; }

  bool flag(size_t index, bool fallback = false) const;
  int64_t integer(size_t index, int64_t fallback) const;
  /// Throws Error where it is no string. Null where it was left out or is none.
  const std::string* text(size_t index) const;

 private:
  Runtime& runtime_;
  std::string_view callee_;
  const Arguments& all_;
  std::vector<const Value*> values_;
};

/// The entry of that name in a table sorted by name, or null.
template <class Table>
auto* find_entry(const Table& table, std::string_view name) {
  const auto* end = table.data() + table.size();
  const auto* found =
      std::lower_bound(table.data(), end, name,
                       [](const auto& entry, std::string_view key) { return entry.name < key; });
  return found != end && found->name == name ? found : nullptr;
}

/// For static_assert on such a table.
template <class Table>
constexpr bool is_sorted_by_name(const Table& table) {
  return std::is_sorted(table.begin(), table.end(),
                        [](const auto& a, const auto& b) { return a.name < b.name; });
}

}  // namespace fewbits::templates
