#pragma once

#include <string_view>

#include "model/templates/bound.h"
#include "model/templates/runtime.h"

// The functions that every template can call: range, namespace, raise_exception, ...
namespace fewbits::templates {

struct Function {
  std::string_view name;
  std::string_view signature;  ///< see Bound
  Value (*run)(Runtime& runtime, const Bound& arguments);
};

/// Null where there is none of that name.
const Function* find_function(std::string_view name);

Value call_function(Runtime& runtime, const Function& function, const Arguments& arguments);

}  // namespace fewbits::templates
