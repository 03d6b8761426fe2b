#include "model/templates/value_tests.h"

#include <array>

#include "model/templates/filters.h"
#include "model/templates/operators.h"
#include "model/templates/print.h"
#include "model/templates/unicode.h"

namespace fewbits::templates {
namespace {

template <Operator op>
bool compares(Runtime& runtime, const Value& value, const Bound& arguments) {
  return compare(runtime, op, value, *arguments[0]);
}

template <class T>
bool holds(Runtime&, const Value& value, const Bound&) {
  return as<T>(value) != nullptr;
}

template <bool wanted>
bool is_exactly(Runtime&, const Value& value, const Bound&) {
  const auto* flag = as<bool>(value);
  return flag != nullptr && *flag == wanted;
}

template <int64_t rest>
bool is_parity(Runtime& runtime, const Value& value, const Bound&) {
  const Value result = arithmetic(runtime, Operator::modulo, value, int64_t{2});
  return equal(runtime, result, rest);
}

bool is_divisible(Runtime& runtime, const Value& value, const Bound& arguments) {
  const Value rest = arithmetic(runtime, Operator::modulo, value, *arguments[0]);
  return equal(runtime, rest, int64_t{0});
}

bool is_defined(Runtime&, const Value& value, const Bound&) {
  return !is_undefined(value);
}

bool is_mapping(Runtime&, const Value& value, const Bound&) {
  return object<Dict>(value) != nullptr;
}

bool is_a_number(Runtime&, const Value& value, const Bound&) {
  return is_number(value);
}

bool is_list_like(const Value& value) {
  return object<List>(value) != nullptr;
}

/// What has a length and subscripts; in jinja2 undefined has both.
bool is_sequence(Runtime&, const Value& value, const Bound&) {
  if (const auto* list = object<List>(value)) return has_index(list->series);
  return is_undefined(value) || is_text(value) || object<Dict>(value) != nullptr;
}

bool is_iterable(Runtime&, const Value& value, const Bound&) {
  return is_list_like(value) || is_undefined(value) || is_text(value) ||
         object<Dict>(value) != nullptr || std::get_if<Loop*>(&value) != nullptr;
}

bool is_callable(Runtime&, const Value& value, const Bound&) {
  return object<Macro>(value) != nullptr || object<Method>(value) != nullptr ||
         object<Function>(value) != nullptr || is_undefined(value) ||
         std::get_if<Loop*>(&value) != nullptr;
}

bool is_escaped(Runtime&, const Value& value, const Bound&) {
  const auto* text = as<Text>(value);
  return text != nullptr && text->markup;
}

template <bool (*test)(std::string_view)>
bool text_is(Runtime& runtime, const Value& value, const Bound&) {
  const std::string text = to_text(runtime, value);
  runtime.charge(text.size());
  return test(text);
}

/// The same object: for what lives only once, equality of value and kind.
bool is_same(Runtime& runtime, const Value& value, const Bound& arguments) {
  const Value& other = *arguments[0];
  if (value.index() != other.index()) return false;
  if (const auto* list = object<List>(value)) return list == object<List>(other);
  if (const auto* dict = object<Dict>(value)) return dict == object<Dict>(other);
  return equal(runtime, value, other);
}

bool is_filter(Runtime&, const Value& value, const Bound&) {
  const auto* name = as<Text>(value);
  return name != nullptr && find_filter(name->view()) != nullptr;
}

bool is_test(Runtime&, const Value& value, const Bound&) {
  const auto* name = as<Text>(value);
  return name != nullptr && find_test(name->view()) != nullptr;
}

constexpr auto kTests = std::to_array<TestEntry>({
    {"!=", "other", compares<Operator::not_equal>},
    {"<", "other", compares<Operator::less>},
    {"<=", "other", compares<Operator::less_equal>},
    {"==", "other", compares<Operator::equal>},
    {">", "other", compares<Operator::greater>},
    {">=", "other", compares<Operator::greater_equal>},
    {"boolean", "", holds<bool>},
    {"callable", "", is_callable},
    {"defined", "", is_defined},
    {"divisibleby", "num", is_divisible},
    {"eq", "other", compares<Operator::equal>},
    {"equalto", "other", compares<Operator::equal>},
    {"escaped", "", is_escaped},
    {"even", "", is_parity<0>},
    {"false", "", is_exactly<false>},
    {"filter", "", is_filter},
    {"float", "", holds<double>},
    {"ge", "other", compares<Operator::greater_equal>},
    {"greaterthan", "other", compares<Operator::greater>},
    {"gt", "other", compares<Operator::greater>},
    {"in", "seq", compares<Operator::in>},
    {"integer", "", holds<int64_t>},
    {"iterable", "", is_iterable},
    {"le", "other", compares<Operator::less_equal>},
    {"lessthan", "other", compares<Operator::less>},
    {"lower", "", text_is<is_lower>},
    {"lt", "other", compares<Operator::less>},
    {"mapping", "", is_mapping},
    {"ne", "other", compares<Operator::not_equal>},
    {"none", "", holds<None>},
    {"number", "", is_a_number},
    {"odd", "", is_parity<1>},
    {"sameas", "other", is_same},
    {"sequence", "", is_sequence},
    {"string", "", holds<Text>},
    {"test", "", is_test},
    {"true", "", is_exactly<true>},
    {"undefined", "", holds<Undefined>},
    {"upper", "", text_is<is_upper>},
});
static_assert(is_sorted_by_name(kTests));

}  // namespace

const TestEntry* find_test(std::string_view name) {
  return find_entry(kTests, name);
}

bool apply_test(Runtime& runtime, const TestEntry& test, const Value& value,
                const Arguments& arguments) {
  return test.run(runtime, value, Bound(runtime, test.name, test.signature, arguments));
}

}  // namespace fewbits::templates
