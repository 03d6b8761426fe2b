#pragma once

#include <string_view>

#include "model/templates/bound.h"
#include "model/templates/runtime.h"

// value is test(arguments)
namespace fewbits::templates {

struct TestEntry {
  std::string_view name;
  std::string_view signature;  ///< see Bound
  bool (*run)(Runtime& runtime, const Value& value, const Bound& arguments);
};

/// Null where there is none of that name.
const TestEntry* find_test(std::string_view name);

bool apply_test(Runtime& runtime, const TestEntry& test, const Value& value,
                const Arguments& arguments);

}  // namespace fewbits::templates
