#pragma once

#include <optional>
#include <string_view>

#include "model/templates/bound.h"
#include "model/templates/runtime.h"

// Methods of strings, lists, dicts and of `loop`.
namespace fewbits::templates {

struct MethodEntry {
  std::string_view name;       ///< "str.strip"
  std::string_view signature;  ///< see Bound
  /// Null for a method that would change its value: the sandbox has none of these.
  Value (*run)(Runtime& runtime, const Value& self, const Bound& arguments);
};

/// The method bound to `value`; undefined for one that changes it, nullopt for an unknown name.
/// Throws Error for a method that Python has and this subset has not.
std::optional<Value> find_method(Runtime& runtime, const Value& value, std::string_view name);

Value call_method(Runtime& runtime, const Method& method, const Arguments& arguments);

/// macro.name
Value macro_name(Runtime& runtime, const Macro& macro);

/// str.replace; at most `count` times where that is not negative.
std::string replace(Runtime& runtime, std::string_view text, std::string_view old,
                    std::string_view replacement, int64_t count);

}  // namespace fewbits::templates
