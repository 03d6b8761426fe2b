#include "model/templates/operators.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "model/templates/print.h"
#include "model/templates/unicode.h"

namespace fewbits::templates {
namespace {

[[noreturn]] void fail_operands(Runtime& runtime, std::string_view op, const Value& a,
                                const Value& b) {
  if (is_undefined(a)) fail_undefined(runtime, a);
  if (is_undefined(b)) fail_undefined(runtime, b);
  runtime.fail(fmt::format("{} does not go with '{}' and '{}'", op, type_name(a), type_name(b)));
}

/// Lists with lists, tuples with tuples; null for others.
std::pair<const List*, const List*> lists_of_a_kind(const Value& a, const Value& b) {
  const auto* x = object<List>(a);
  const auto* y = object<List>(b);
  const bool good = x != nullptr && y != nullptr && x->series == y->series &&
                    (x->series == Series::list || x->series == Series::tuple);
  if (!good) return {};
  return {x, y};
}

bool equal_lists(Runtime& runtime, const List& a, const List& b) {
  if (a.items.size() != b.items.size()) return false;
  for (size_t i = 0; i < a.items.size(); ++i) {
    if (!equal(runtime, a.items[i], b.items[i])) return false;
  }
  return true;
}

bool equal_dicts(Runtime& runtime, const Dict& a, const Dict& b) {
  if (a.entries.size() != b.entries.size()) return false;
  for (const auto& [key, value] : a.entries) {
    const Value* other = find(runtime, b, key);
    if (other == nullptr || !equal(runtime, value, *other)) return false;
  }
  return true;
}

bool less_lists(Runtime& runtime, const List& a, const List& b) {
  const size_t shared = std::min(a.items.size(), b.items.size());
  for (size_t i = 0; i < shared; ++i) {
    if (!equal(runtime, a.items[i], b.items[i])) return less(runtime, a.items[i], b.items[i]);
  }
  return a.items.size() < b.items.size();
}

/// a <= b is not "not b < a" for NaN.
bool less_equal(Runtime& runtime, const Value& a, const Value& b) {
  if (is_number(a) && is_number(b) && (std::isnan(to_double(a)) || std::isnan(to_double(b)))) {
    return false;
  }
  return !less(runtime, b, a);
}

Value add_texts(Runtime& runtime, const Text& a, const Text& b) {
  const bool markup = a.markup || b.markup;
  Writer out(runtime);
  out.add(markup && !a.markup ? escape_html(a.view()) : a.view());
  out.add(markup && !b.markup ? escape_html(b.view()) : b.view());
  return runtime.text(out.take(), markup);
}

Value repeat(Runtime& runtime, const Value& value, int64_t times) {
  const auto* text = as<Text>(value);
  const auto* list = object<List>(value);
  Writer out(runtime);
  std::vector<Value> items;
  for (int64_t i = 0; i < times; ++i) {
    runtime.spend();
    if (text != nullptr) {
      out.add(text->view());
    } else {
      runtime.charge(list->items.size() * sizeof(Value));
      items.insert(items.end(), list->items.begin(), list->items.end());
    }
  }
  if (text != nullptr) return runtime.text(out.take(), text->markup);
  return runtime.list(std::move(items), list->series);
}

bool can_repeat(const Value& value) {
  const auto* list = object<List>(value);
  return is_text(value) || (list != nullptr && lists_of_a_kind(value, value).first == list);
}

int64_t floor_divide(int64_t a, int64_t b) {
  const int64_t quotient = a / b;
  return quotient - (a % b != 0 && (a < 0) != (b < 0));
}

Value integer_power(Runtime& runtime, int64_t base, int64_t exponent) {
  if (exponent < 0) return std::pow(static_cast<double>(base), static_cast<double>(exponent));
  int64_t result = 1;
  for (; exponent > 0; --exponent) {
    runtime.spend();
    if (__builtin_mul_overflow(result, base, &result)) runtime.fail("a number above 2^63");
  }
  return result;
}

Value integer_arithmetic(Runtime& runtime, Operator op, int64_t a, int64_t b) {
  const bool divides =
      op == Operator::divide || op == Operator::floor_divide || op == Operator::modulo;
  if (divides && b == 0) runtime.fail("division by zero");
  if (divides && b == -1 && a == INT64_MIN) runtime.fail("a number above 2^63");
  int64_t result = 0;
  bool overflow = false;
  switch (op) {
    case Operator::add:
      overflow = __builtin_add_overflow(a, b, &result);
      break;
    case Operator::subtract:
      overflow = __builtin_sub_overflow(a, b, &result);
      break;
    case Operator::multiply:
      overflow = __builtin_mul_overflow(a, b, &result);
      break;
    case Operator::divide:
      return static_cast<double>(a) / static_cast<double>(b);
    case Operator::floor_divide:
      return floor_divide(a, b);
    case Operator::modulo:
      return a - floor_divide(a, b) * b;
    default:
      return integer_power(runtime, a, b);
  }
  if (overflow) runtime.fail("a number above 2^63");
  return result;
}

/// With the sign of `b`, as Python's %.
double float_modulo(double a, double b) {
  const double rest = std::fmod(a, b);
  if (rest == 0) return std::copysign(0.0, b);
  return (rest < 0) != (b < 0) ? rest + b : rest;
}

Value float_arithmetic(Runtime& runtime, Operator op, double a, double b) {
  const bool divides =
      op == Operator::divide || op == Operator::floor_divide || op == Operator::modulo;
  if (divides && b == 0) runtime.fail("division by zero");
  switch (op) {
    case Operator::add:
      return a + b;
    case Operator::subtract:
      return a - b;
    case Operator::multiply:
      return a * b;
    case Operator::divide:
      return a / b;
    case Operator::floor_divide:
      return std::round((a - float_modulo(a, b)) / b);
    case Operator::modulo:
      return float_modulo(a, b);
    default:
      return std::pow(a, b);
  }
}

struct Range {
  int64_t first, last, step;
};

/// Positions for `count` items, cut to what exists as Python does.
Range resolve(Runtime& runtime, const SliceBounds& bounds, int64_t count) {
  const auto part = [&](const Value& value, int64_t fallback) {
    if (is_none(value)) return fallback;
    if (!is_integer(value)) {
      if (is_undefined(value)) fail_undefined(runtime, value);
      runtime.fail("a slice needs whole numbers");
    }
    return to_integer(value);
  };
  // No list is this long, so cutting here keeps the arithmetic below inside 64 bits.
  constexpr int64_t kFar = int64_t{1} << 40;
  const int64_t step = std::clamp(part(bounds.step, 1), -kFar, kFar);
  if (step == 0) runtime.fail("a slice's step cannot be 0");
  const int64_t lowest = step > 0 ? 0 : -1;
  const int64_t highest = step > 0 ? count : count - 1;
  const auto position = [&](const Value& value, int64_t fallback) {
    const int64_t given = std::clamp(part(value, fallback), -kFar, kFar);
    if (is_none(value)) return fallback;
    return std::clamp(given < 0 ? given + count : given, lowest, highest);
  };
  const int64_t first = position(bounds.first, step > 0 ? lowest : highest);
  return {first, position(bounds.last, step > 0 ? highest : lowest), step};
}

template <class Visit>
void for_each_position(const Range& range, Visit visit) {
  for (int64_t i = range.first; range.step > 0 ? i < range.last : i > range.last; i += range.step) {
    visit(static_cast<size_t>(i));
  }
}

Value slice_text(Runtime& runtime, const Text& text, const SliceBounds& bounds) {
  const std::string_view bytes = text.view();
  const Range range = resolve(runtime, bounds, length(runtime, text));
  if (range.step == 1) {
    const size_t first = position_of(bytes, range.first);
    const size_t count = position_of(bytes.substr(first), range.last - range.first);
    return runtime.text(std::string(bytes.substr(first, count)), text.markup);
  }
  runtime.charge(bytes.size() * sizeof(std::string_view));
  const std::vector<std::string_view> all = characters(bytes);
  std::string out;
  for_each_position(range, [&](size_t i) { out += all[i]; });
  return runtime.text(std::move(out), text.markup);
}

}  // namespace

void fail_undefined(Runtime& runtime, const Value& value) {
  const auto* missing = as<Undefined>(value);
  runtime.fail(fmt::format("'{}' is undefined", missing->name));
}

bool is_integer(const Value& value) {
  return as<int64_t>(value) || as<bool>(value);
}

int64_t to_integer(const Value& value) {
  const auto* flag = as<bool>(value);
  return flag != nullptr ? *flag : *as<int64_t>(value);
}

bool is_number(const Value& value) {
  return is_integer(value) || as<double>(value);
}

double to_double(const Value& value) {
  const auto* number = as<double>(value);
  return number != nullptr ? *number : static_cast<double>(to_integer(value));
}

bool truth(const Value& value) {
  if (is_undefined(value) || is_none(value)) return false;
  if (is_number(value)) return to_double(value) != 0;
  if (const auto* text = as<Text>(value)) return !text->view().empty();
  if (const auto* dict = object<Dict>(value)) return !dict->entries.empty();
  const auto* list = object<List>(value);
  return list == nullptr || list->series == Series::stream || !list->items.empty();
}

bool equal(Runtime& runtime, const Value& a, const Value& b) {
  const Runtime::Level level(runtime);
  runtime.spend();
  const auto* x = as<Text>(a);
  const auto* y = as<Text>(b);
  if (x != nullptr && y != nullptr) {
    runtime.spend(static_cast<int64_t>(std::min(x->bytes->size(), y->bytes->size()) / 256));
    return x->view() == y->view();
  }
  if (is_integer(a) && is_integer(b)) return to_integer(a) == to_integer(b);
  if (is_number(a) && is_number(b)) return to_double(a) == to_double(b);
  if (const auto [p, q] = lists_of_a_kind(a, b); p != nullptr) return equal_lists(runtime, *p, *q);
  const auto* p = object<Dict>(a);
  const auto* q = object<Dict>(b);
  if (p != nullptr && q != nullptr) return equal_dicts(runtime, *p, *q);
  if (a.index() != b.index()) return false;
  if (is_undefined(a) || is_none(a)) return true;
  if (const auto* list = object<List>(a)) return list == object<List>(b);
  if (const auto* macro = object<Macro>(a)) return macro == object<Macro>(b);
  const auto* space = std::get_if<Namespace*>(&a);
  return space != nullptr && *space == *std::get_if<Namespace*>(&b);
}

bool less(Runtime& runtime, const Value& a, const Value& b) {
  const Runtime::Level level(runtime);
  runtime.spend();
  const auto* x = as<Text>(a);
  const auto* y = as<Text>(b);
  if (x != nullptr && y != nullptr) {
    runtime.spend(static_cast<int64_t>(std::min(x->bytes->size(), y->bytes->size()) / 256));
    return x->view() < y->view();  // UTF-8 sorts as its code points do
  }
  if (is_integer(a) && is_integer(b)) return to_integer(a) < to_integer(b);
  if (is_number(a) && is_number(b)) return to_double(a) < to_double(b);
  if (const auto [p, q] = lists_of_a_kind(a, b); p != nullptr) return less_lists(runtime, *p, *q);
  fail_operands(runtime, "'<'", a, b);
}

bool compare(Runtime& runtime, Operator op, const Value& a, const Value& b) {
  switch (op) {
    case Operator::equal:
      return equal(runtime, a, b);
    case Operator::not_equal:
      return !equal(runtime, a, b);
    case Operator::less:
      return less(runtime, a, b);
    case Operator::greater:
      return less(runtime, b, a);
    case Operator::less_equal:
      return less_equal(runtime, a, b);
    case Operator::greater_equal:
      return less_equal(runtime, b, a);
    case Operator::in:
      return contains(runtime, b, a);
    default:
      return !contains(runtime, b, a);
  }
}

bool contains(Runtime& runtime, const Value& container, const Value& item) {
  if (const auto* text = as<Text>(container)) {
    const auto* part = as<Text>(item);
    if (part == nullptr) fail_operands(runtime, "'in'", item, container);
    runtime.spend(static_cast<int64_t>(text->bytes->size() / 256));
    return find_text(text->view(), part->view()) != std::string_view::npos;
  }
  if (const auto* dict = object<Dict>(container)) return find(runtime, *dict, item) != nullptr;
  for (const Value& candidate : iterate(runtime, container)) {
    if (equal(runtime, candidate, item)) return true;
  }
  return false;
}

Value arithmetic(Runtime& runtime, Operator op, const Value& a, const Value& b) {
  if (is_integer(a) && is_integer(b)) {
    return integer_arithmetic(runtime, op, to_integer(a), to_integer(b));
  }
  if (is_number(a) && is_number(b)) {
    return float_arithmetic(runtime, op, to_double(a), to_double(b));
  }
  if (op == Operator::add) {
    const auto* x = as<Text>(a);
    const auto* y = as<Text>(b);
    if (x != nullptr && y != nullptr) return add_texts(runtime, *x, *y);
    if (const auto [p, q] = lists_of_a_kind(a, b); p != nullptr) {
      std::vector<Value> items = p->items;
      items.insert(items.end(), q->items.begin(), q->items.end());
      return runtime.list(std::move(items), p->series);
    }
  }
  if (op == Operator::multiply && can_repeat(a) && is_integer(b)) {
    return repeat(runtime, a, to_integer(b));
  }
  if (op == Operator::multiply && is_integer(a) && can_repeat(b)) {
    return repeat(runtime, b, to_integer(a));
  }
  if (op == Operator::modulo && is_text(a)) {
    runtime.fail("formatting a string with % is not supported: use ~ or format()");
  }
  fail_operands(runtime, "the operator", a, b);
}

Value negate(Runtime& runtime, const Value& value) {
  if (is_integer(value)) return arithmetic(runtime, Operator::subtract, int64_t{0}, value);
  if (const auto* number = as<double>(value)) return -*number;
  fail_operands(runtime, "'-'", value, value);
}

int64_t length(Runtime& runtime, const Value& value) {
  if (is_undefined(value)) return 0;
  if (const auto* text = as<Text>(value)) {
    runtime.spend(static_cast<int64_t>(text->bytes->size() / 256));
    return count_characters(text->view());
  }
  if (const auto* dict = object<Dict>(value)) return static_cast<int64_t>(dict->entries.size());
  const auto* list = object<List>(value);
  if (list == nullptr) runtime.fail(fmt::format("'{}' has no length", type_name(value)));
  if (list->series == Series::stream) {
    runtime.fail("the result of a lazy filter has no length: use |list");
  }
  return static_cast<int64_t>(list->items.size());
}

std::span<const Value> iterate(Runtime& runtime, const Value& value) {
  if (is_undefined(value)) return {};
  if (const auto* list = object<List>(value)) {
    if (list->spent) return {};
    list->spent = list->series == Series::stream;
    return list->items;
  }
  std::vector<Value> items;
  if (const auto* dict = object<Dict>(value)) {
    for (const auto& [key, item] : dict->entries) items.push_back(key);
  } else if (const auto* text = as<Text>(value)) {
    for (const std::string_view character : characters(text->view())) {
      items.push_back(runtime.text(std::string(character)));
    }
  } else {
    runtime.fail(fmt::format("'{}' is not iterable", type_name(value)));
  }
  const Value list = runtime.list(std::move(items));
  return object<List>(list)->items;
}

const Value* find(Runtime& runtime, const Dict& dict, const Value& key) {
  if (object<List>(key) != nullptr || object<Dict>(key) != nullptr) {
    runtime.fail(fmt::format("a '{}' cannot be a key", type_name(key)));
  }
  const auto* text = as<Text>(key);
  runtime.spend(static_cast<int64_t>(dict.entries.size() / 16));
  for (const auto& [known, value] : dict.entries) {
    const auto* other = as<Text>(known);
    const bool same = text != nullptr && other != nullptr ? text->view() == other->view()
                                                          : equal(runtime, known, key);
    if (same) return &value;
  }
  return nullptr;
}

void assign(Runtime& runtime, Dict& dict, const Value& key, const Value& value) {
  const Value* known = find(runtime, dict, key);
  if (known != nullptr) {
    const auto same = [known](const auto& entry) { return &entry.second == known; };
    std::find_if(dict.entries.begin(), dict.entries.end(), same)->second = value;
    return;
  }
  runtime.charge(2 * sizeof(Value));
  dict.entries.emplace_back(key, value);
}

Value slice(Runtime& runtime, const Value& value, const SliceBounds& bounds) {
  if (const auto* text = as<Text>(value)) return slice_text(runtime, *text, bounds);
  const auto* list = object<List>(value);
  if (list == nullptr || !has_index(list->series)) {
    if (is_undefined(value)) fail_undefined(runtime, value);
    runtime.fail(fmt::format("'{}' cannot be sliced", type_name(value)));
  }
  std::vector<Value> items;
  for_each_position(resolve(runtime, bounds, static_cast<int64_t>(list->items.size())),
                    [&](size_t i) { items.push_back(list->items[i]); });
  return runtime.list(std::move(items), list->series);
}

Value element(Runtime& runtime, const Value& value, int64_t index) {
  const int64_t count = length(runtime, value);
  const int64_t position = index < 0 ? index + count : index;
  if (position < 0 || position >= count) return Undefined{"an item outside the list"};
  if (const auto* list = object<List>(value)) return list->items[static_cast<size_t>(position)];
  const std::string_view text = as<Text>(value)->view();
  runtime.spend(static_cast<int64_t>(text.size() / 256));
  const std::string_view character = character_at(text, position_of(text, position));
  return runtime.text(std::string(character), as<Text>(value)->markup);
}

}  // namespace fewbits::templates
