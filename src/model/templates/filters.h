#pragma once

#include <string_view>

#include "model/templates/bound.h"
#include "model/templates/runtime.h"

// value|filter(arguments)
namespace fewbits::templates {

struct FilterEntry {
  std::string_view name;
  std::string_view signature;  ///< of what stands in parentheses; see Bound
  Value (*run)(Runtime& runtime, const Value& input, const Bound& arguments);
};

/// Null where there is none of that name.
const FilterEntry* find_filter(std::string_view name);

Value apply_filter(Runtime& runtime, const FilterEntry& filter, const Value& input,
                   const Arguments& arguments);

}  // namespace fewbits::templates
