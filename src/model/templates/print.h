#pragma once

#include <string>

#include "model/templates/runtime.h"

// Values as text.
namespace fewbits::templates {

/// str(value). Undefined is empty.
std::string to_text(Runtime& runtime, const Value& value);

/// repr(value), as inside a printed list.
std::string to_repr(Runtime& runtime, const Value& value);

/// str(float): the shortest digits that read back equal, "1.0", "1e+16", "inf".
std::string float_text(double value);

/// What Python calls the type of `value`.
std::string_view type_name(const Value& value);

struct JsonStyle {
  bool ascii = false;  ///< \uXXXX for everything else
  bool sort_keys = false;
  bool indented = false;  ///< each item on its own line, behind `indent` for each level
  std::string indent, item_separator, key_separator;
};

/// json.dumps(value)
std::string to_json(Runtime& runtime, const Value& value, const JsonStyle& style);

}  // namespace fewbits::templates
