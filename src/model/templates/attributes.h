#pragma once

#include "model/templates/runtime.h"

// value.name and value[key]: dict items, list items, methods, fields of namespaces and of `loop`.
namespace fewbits::templates {

/// value.name: a method or field first, then the item of that key; undefined where there is
/// neither.
Value attribute(Runtime& runtime, const Value& value, std::string_view name);

/// value[key]: the item first, then the method or field.
Value subscript(Runtime& runtime, const Value& value, const Value& key);

}  // namespace fewbits::templates
