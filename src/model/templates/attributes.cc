#include "model/templates/attributes.h"

#include <optional>

#include "model/templates/loop.h"
#include "model/templates/methods.h"
#include "model/templates/operators.h"

namespace fewbits::templates {
namespace {

/// What Python's getattr() finds.
std::optional<Value> field(Runtime& runtime, const Value& value, std::string_view name) {
  if (const auto* loop = std::get_if<Loop*>(&value)) return loop_field(runtime, **loop, name);
  if (const auto* space = std::get_if<Namespace*>(&value)) {
    const std::string key(name);
    const Value* found = find(runtime, (*space)->fields, Text{&key});
    return found == nullptr ? std::nullopt : std::optional(*found);
  }
  if (const auto* macro = object<Macro>(value); macro != nullptr && name == "name") {
    return macro_name(runtime, *macro);
  }
  return find_method(runtime, value, name);
}

std::optional<Value> item(Runtime& runtime, const Value& value, const Value& key) {
  if (is_undefined(value)) fail_undefined(runtime, value);
  if (const auto* dict = object<Dict>(value)) {
    if (object<List>(key) != nullptr || object<Dict>(key) != nullptr) return std::nullopt;
    const Value* found = find(runtime, *dict, key);
    return found == nullptr ? std::nullopt : std::optional(*found);
  }
  const auto* list = object<List>(value);
  const bool indexed = is_text(value) || (list != nullptr && has_index(list->series));
  if (!indexed || !is_integer(key)) return std::nullopt;
  return element(runtime, value, to_integer(key));
}

Value missing(const Value& key) {
  const auto* name = as<Text>(key);
  return Undefined{name == nullptr ? "an item" : name->view()};
}

}  // namespace

Value attribute(Runtime& runtime, const Value& value, std::string_view name) {
  if (is_undefined(value)) fail_undefined(runtime, value);
  if (const auto found = field(runtime, value, name)) return *found;
  const std::string key(name);
  if (const auto found = item(runtime, value, Text{&key})) return *found;
  return Undefined{name};
}

Value subscript(Runtime& runtime, const Value& value, const Value& key) {
  if (const auto found = item(runtime, value, key)) return *found;
  if (const auto* name = as<Text>(key)) {
    if (const auto found = field(runtime, value, name->view())) return *found;
  }
  return missing(key);
}

}  // namespace fewbits::templates
