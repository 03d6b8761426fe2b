#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include "model/templates/ast.h"
#include "model/templates/runtime.h"

// Python's operators on Values. What Python refuses with TypeError is an Error here.
namespace fewbits::templates {

bool truth(const Value& value);
bool equal(Runtime& runtime, const Value& a, const Value& b);
bool less(Runtime& runtime, const Value& a, const Value& b);
/// One of < <= > >= == != in not_in.
bool compare(Runtime& runtime, Operator op, const Value& a, const Value& b);
bool contains(Runtime& runtime, const Value& container, const Value& item);

/// One of + - * / // % **.
Value arithmetic(Runtime& runtime, Operator op, const Value& a, const Value& b);
Value negate(Runtime& runtime, const Value& value);

/// len(value)
int64_t length(Runtime& runtime, const Value& value);
/// What a `for` goes through. Reads a stream up.
std::span<const Value> iterate(Runtime& runtime, const Value& value);

/// The value of `key`, or null.
const Value* find(Runtime& runtime, const Dict& dict, const Value& key);
/// dict[key] = value
void assign(Runtime& runtime, Dict& dict, const Value& key, const Value& value);

struct SliceBounds {
  Value first = None{}, last = None{}, step = None{};
};
/// value[first:last:step]
Value slice(Runtime& runtime, const Value& value, const SliceBounds& bounds);
/// list[index] or text[index] with an index that may be negative; undefined where it is outside.
Value element(Runtime& runtime, const Value& value, int64_t index);

/// Whole numbers, bools among them.
bool is_integer(const Value& value);
int64_t to_integer(const Value& value);  ///< REQUIRES: is_integer(value)
bool is_number(const Value& value);
double to_double(const Value& value);  ///< REQUIRES: is_number(value)

[[noreturn]] void fail_undefined(Runtime& runtime, const Value& value);

/// Sorts by what `key` gives, as Python's sorted(): equal ones keep their order, reversed or not.
template <class T, class Key>
void stable_sort(Runtime& runtime, std::vector<T>& items, Key key, bool reverse = false) {
  std::stable_sort(items.begin(), items.end(), [&](const T& a, const T& b) {
    return reverse ? less(runtime, key(b), key(a)) : less(runtime, key(a), key(b));
  });
}

}  // namespace fewbits::templates
