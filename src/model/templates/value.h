#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

// The values of a template, with Python's meaning. A Value is small and copied freely: what it
// points to lives in the Runtime of one rendering, in the parsed template or in the caller's
// context, and never changes - the sandbox of models' templates has no mutable values but
// namespace() and the state of a loop.
namespace fewbits::templates {

/// A name, key or attribute that is not there. It prints as nothing; most other uses are errors.
struct Undefined {
  std::string_view name;
};

struct None {};

/// UTF-8. `markup`: went through |safe or |escape, so plain text that is added to it gets escaped.
struct Text {
  const std::string* bytes;
  bool markup = false;

  std::string_view view() const { return *bytes; }
};

struct List;
struct Dict;
struct Namespace;
struct Loop;
struct Macro;
struct Method;
struct Function;

using Value = std::variant<Undefined, None, bool, int64_t, double, Text, const List*, const Dict*,
                           Namespace*, Loop*, const Macro*, const Method*, const Function*>;

/// What Python would have here. All can be iterated; only list and tuple are equal to others of
/// their kind.
enum class Series {
  list,
  tuple,
  range,
  keys,    ///< dict.keys(): no index, as the next two
  values,  ///< dict.values()
  items,   ///< dict.items()
  stream,  ///< the result of |select, |map, ...: always true, has no length, can be read once
};

struct List {
  std::vector<Value> items;
  Series series = Series::list;
  mutable bool spent = false;  ///< of a stream that was read
};

/// In order of insertion, as Python's. Small: looked up from the front.
struct Dict {
  std::vector<std::pair<Value, Value>> entries;
};

struct Namespace {
  Dict fields;
};

/// The variable `loop`. `next` gives the next item that passes the loop's filter, as late as it is
/// asked for.
struct Loop {
  std::function<bool(Value&)> next;
  int64_t index0 = -1;
  int64_t known_length = -1;  ///< without a filter the length is known at the start
  Value before, current;
  std::deque<Value> ahead;  ///< items that loop.last, loop.nextitem or loop.length looked at early
};

struct MacroDefinition;

/// A macro sees the variables of the block it was defined in; `scope_id` tells when that block is
/// gone.
struct Macro {
  const MacroDefinition* definition;
  size_t scope;
  int64_t scope_id;
};

/// The arguments of one call.
struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string_view, Value>> named;
};

struct MethodEntry;

/// A method of a string, list or dict, taken from the value it belongs to.
struct Method {
  const MethodEntry* entry;
  Value self;
};

template <class T>
const T* as(const Value& value) {
  return std::get_if<T>(&value);
}

/// The list, dict, ... that `value` is, or null.
template <class T>
const T* object(const Value& value) {
  const auto* held = std::get_if<const T*>(&value);
  return held == nullptr ? nullptr : *held;
}

/// Whether it has a length and an index.
inline bool has_index(Series series) {
  return series == Series::list || series == Series::tuple || series == Series::range;
}

inline bool is_undefined(const Value& value) {
  return as<Undefined>(value) != nullptr;
}
inline bool is_none(const Value& value) {
  return as<None>(value) != nullptr;
}
inline bool is_text(const Value& value) {
  return as<Text>(value) != nullptr;
}

}  // namespace fewbits::templates
