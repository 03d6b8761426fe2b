#include <fmt/format.h>

#include <algorithm>

#include "model/templates/attributes.h"
#include "model/templates/filter_functions.h"
#include "model/templates/filters.h"
#include "model/templates/methods.h"
#include "model/templates/operators.h"
#include "model/templates/print.h"
#include "model/templates/unicode.h"
#include "model/templates/value_tests.h"

namespace fewbits::templates {
namespace {

/// "a.b.0" is item["a"]["b"][0]; a number is an index. `fallback` stands for what is not there.
class Getter {
 public:
  Getter(Runtime& runtime, const Value& path, const Value* fallback = nullptr)
      : runtime_(runtime), fallback_(fallback) {
    const auto* text = as<Text>(path);
    if (text == nullptr) {
      if (!is_none(path)) keys_.push_back(path);
      return;
    }
    std::string_view rest = text->view();
    for (size_t dot = rest.find('.'); dot != std::string_view::npos; dot = rest.find('.')) {
      add(rest.substr(0, dot));
      rest.remove_prefix(dot + 1);
    }
    add(rest);
  }

  Value operator()(Value item) const {
    for (const Value& key : keys_) {
      item = subscript(runtime_, item, key);
      if (is_undefined(item) && fallback_ != nullptr) item = *fallback_;
    }
    return item;
  }

 private:
  void add(std::string_view part) {
    const bool digits = !part.empty() && part.size() < 10 &&
                        part.find_first_not_of("0123456789") == std::string_view::npos;
    if (digits) {
      keys_.push_back(int64_t{std::stoi(std::string(part))});
    } else {
      keys_.push_back(runtime_.text(std::string(part)));
    }
  }

  Runtime& runtime_;
  const Value* fallback_;
  std::vector<Value> keys_;
};

Getter getter(Runtime& runtime, const Value* path) {
  return Getter(runtime, path == nullptr ? None{} : *path);
}

/// Strings in lower case, others as they are.
Value ignore_case(Runtime& runtime, const Value& value) {
  const auto* text = as<Text>(value);
  return text == nullptr ? value : runtime.text(lower(text->view()));
}

Value stream(Runtime& runtime, std::vector<Value> items) {
  return runtime.list(std::move(items), Series::stream);
}

std::vector<Value> copy_items(Runtime& runtime, const Value& input) {
  const auto items = iterate(runtime, input);
  return {items.begin(), items.end()};
}

using Keyed = std::pair<Value, Value>;  ///< what to compare, the item

/// The items with the value that sort, min, ... go by.
std::vector<Keyed> with_keys(Runtime& runtime, const Value& input, const Value* path,
                             bool case_sensitive) {
  const Getter key = getter(runtime, path);
  std::vector<Keyed> result;
  for (const Value& item : iterate(runtime, input)) {
    const Value found = key(item);
    result.emplace_back(case_sensitive ? found : ignore_case(runtime, found), item);
  }
  runtime.charge(result.size() * sizeof(Keyed));
  return result;
}

Value extreme(Runtime& runtime, const Value& input, const Bound& arguments, bool largest) {
  const auto items = with_keys(runtime, input, arguments[1], arguments.flag(0));
  if (items.empty()) return Undefined{"the least or largest item of nothing"};
  const Keyed* best = &items[0];
  for (const Keyed& item : items) {
    const bool better =
        largest ? less(runtime, best->first, item.first) : less(runtime, item.first, best->first);
    if (better) best = &item;
  }
  return best->second;
}

/// Arguments from `begin` on.
Arguments tail(const Arguments& arguments, size_t begin) {
  const auto first = arguments.positional.begin() + static_cast<std::ptrdiff_t>(begin);
  return {{first, arguments.positional.end()}, arguments.named};
}

/// The name of a filter or test among the arguments.
std::string_view needed_name(Runtime& runtime, const Arguments& arguments, size_t index) {
  const auto* name =
      index < arguments.positional.size() ? as<Text>(arguments.positional[index]) : nullptr;
  if (name == nullptr) runtime.fail("the name of a filter, test or attribute is expected");
  return name->view();
}

struct Selection {
  bool keep;          ///< what the test must give
  bool by_attribute;  ///< the first argument names what to test
};

Value select(Runtime& runtime, const Value& input, const Arguments& arguments, Selection how) {
  if (!truth(input)) return stream(runtime, {});
  const size_t test_at = how.by_attribute ? 1 : 0;
  if (how.by_attribute && arguments.positional.empty()) runtime.fail("an attribute is expected");
  const Getter key = getter(runtime, how.by_attribute ? &arguments.positional[0] : nullptr);
  const bool has_test = test_at < arguments.positional.size();
  const TestEntry* test = nullptr;
  if (has_test) {
    const std::string_view name = needed_name(runtime, arguments, test_at);
    test = find_test(name);
    if (test == nullptr) runtime.fail(fmt::format("no test is named '{}'", name));
  }
  const Arguments rest = has_test ? tail(arguments, test_at + 1) : Arguments{};
  std::vector<Value> items;
  for (const Value& item : iterate(runtime, input)) {
    runtime.spend();
    const Value value = key(item);
    const bool passes = has_test ? apply_test(runtime, *test, value, rest) : truth(value);
    if (passes == how.keep) items.push_back(item);
  }
  return stream(runtime, std::move(items));
}

/// |map(attribute="a.b", default=0)
Value map_attribute(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Value *path = nullptr, *fallback = nullptr;
  for (const auto& [name, value] : arguments.named) {
    if (name == "attribute") {
      path = &value;
    } else if (name == "default") {
      fallback = &value;
    } else {
      runtime.fail(fmt::format("map: unknown argument '{}'", name));
    }
  }
  if (path == nullptr) runtime.fail("map needs a filter or an attribute");
  const bool has_fallback = fallback != nullptr && !is_none(*fallback);
  const Getter key(runtime, *path, has_fallback ? fallback : nullptr);
  std::vector<Value> items;
  for (const Value& item : iterate(runtime, input)) items.push_back(key(item));
  return stream(runtime, std::move(items));
}

}  // namespace

Value filter_default(Runtime& runtime, const Value& input, const Bound& arguments) {
  const bool missing = is_undefined(input) || (arguments.flag(1) && !truth(input));
  if (!missing) return input;
  return arguments[0] == nullptr ? runtime.text({}) : *arguments[0];
}

Value filter_length(Runtime& runtime, const Value& input, const Bound&) {
  return length(runtime, input);
}

Value filter_list(Runtime& runtime, const Value& input, const Bound&) {
  return runtime.list(copy_items(runtime, input));
}

Value filter_first(Runtime& runtime, const Value& input, const Bound&) {
  const auto items = iterate(runtime, input);
  return items.empty() ? Undefined{"the first item of nothing"} : items.front();
}

Value filter_last(Runtime& runtime, const Value& input, const Bound&) {
  length(runtime, input);  // a stream has no end to begin from
  const auto items = iterate(runtime, input);
  return items.empty() ? Undefined{"the last item of nothing"} : items.back();
}

Value filter_reverse(Runtime& runtime, const Value& input, const Bound&) {
  if (is_text(input)) return slice(runtime, input, {None{}, None{}, int64_t{-1}});
  length(runtime, input);
  std::vector<Value> items = copy_items(runtime, input);
  std::reverse(items.begin(), items.end());
  return stream(runtime, std::move(items));
}

Value filter_items(Runtime& runtime, const Value& input, const Bound&) {
  if (is_undefined(input)) return stream(runtime, {});
  const auto* dict = object<Dict>(input);
  if (dict == nullptr) runtime.fail(fmt::format("items takes a dict, not '{}'", type_name(input)));
  std::vector<Value> items;
  for (const auto& [key, value] : dict->entries) {
    items.push_back(runtime.list({key, value}, Series::tuple));
  }
  return stream(runtime, std::move(items));
}

Value filter_attr(Runtime& runtime, const Value& input, const Bound& arguments) {
  const std::string* name = arguments.text(0);
  if (name == nullptr) runtime.fail("attr needs a name");
  if (object<Dict>(input) != nullptr) {
    const auto found = find_method(runtime, input, *name);  // items are not its business
    return found ? *found : Undefined{*name};
  }
  return attribute(runtime, input, *name);
}

Value filter_join(Runtime& runtime, const Value& input, const Bound& arguments) {
  const Getter key = getter(runtime, arguments[1]);
  const std::string separator = arguments[0] == nullptr ? "" : to_text(runtime, *arguments[0]);
  Writer out(runtime);
  bool first = true;
  for (const Value& item : iterate(runtime, input)) {
    if (!first) out.add(separator);
    out.add(to_text(runtime, key(item)));
    first = false;
  }
  return runtime.text(out.take());
}

Value filter_map(Runtime& runtime, const Value& input, const Bound& arguments) {
  if (!truth(input)) return stream(runtime, {});
  if (arguments.all().positional.empty()) return map_attribute(runtime, input, arguments.all());
  const std::string_view name = needed_name(runtime, arguments.all(), 0);
  const FilterEntry* filter = find_filter(name);
  if (filter == nullptr) runtime.fail(fmt::format("no filter is named '{}'", name));
  const Arguments rest = tail(arguments.all(), 1);
  std::vector<Value> items;
  for (const Value& item : iterate(runtime, input)) {
    runtime.spend();
    items.push_back(apply_filter(runtime, *filter, item, rest));
  }
  return stream(runtime, std::move(items));
}

Value filter_select(Runtime& runtime, const Value& input, const Bound& arguments) {
  return select(runtime, input, arguments.all(), {true, false});
}

Value filter_selectattr(Runtime& runtime, const Value& input, const Bound& arguments) {
  return select(runtime, input, arguments.all(), {true, true});
}

Value filter_reject(Runtime& runtime, const Value& input, const Bound& arguments) {
  return select(runtime, input, arguments.all(), {false, false});
}

Value filter_rejectattr(Runtime& runtime, const Value& input, const Bound& arguments) {
  return select(runtime, input, arguments.all(), {false, true});
}

Value filter_min(Runtime& runtime, const Value& input, const Bound& arguments) {
  return extreme(runtime, input, arguments, false);
}

Value filter_max(Runtime& runtime, const Value& input, const Bound& arguments) {
  return extreme(runtime, input, arguments, true);
}

Value filter_sum(Runtime& runtime, const Value& input, const Bound& arguments) {
  const Getter key = getter(runtime, arguments[0]);
  Value sum = arguments[1] == nullptr ? int64_t{0} : *arguments[1];
  for (const Value& item : iterate(runtime, input)) {
    sum = arithmetic(runtime, Operator::add, sum, key(item));
  }
  return sum;
}

Value filter_unique(Runtime& runtime, const Value& input, const Bound& arguments) {
  std::vector<Value> seen, items;
  for (const auto& [key, item] : with_keys(runtime, input, arguments[1], arguments.flag(0))) {
    const bool known = std::any_of(
        seen.begin(), seen.end(),
        [&, &wanted = key](const Value& other) { return equal(runtime, other, wanted); });
    if (known) continue;
    seen.push_back(key);
    items.push_back(item);
  }
  return stream(runtime, std::move(items));
}

Value filter_sort(Runtime& runtime, const Value& input, const Bound& arguments) {
  // "a,b" sorts by a, then by b: the same as sorting by b, then by a, as the sort is stable.
  std::vector<Value> paths;
  const auto* several = arguments[2] == nullptr ? nullptr : as<Text>(*arguments[2]);
  std::string_view rest = several == nullptr ? std::string_view() : several->view();
  for (size_t comma = rest.find(','); comma != std::string_view::npos; comma = rest.find(',')) {
    paths.push_back(runtime.text(std::string(rest.substr(0, comma))));
    rest.remove_prefix(comma + 1);
  }
  if (several != nullptr) {
    paths.push_back(runtime.text(std::string(rest)));
  } else {
    paths.push_back(arguments[2] == nullptr ? None{} : *arguments[2]);
  }
  Value sorted = runtime.list(copy_items(runtime, input));
  for (auto path = paths.rbegin(); path != paths.rend(); ++path) {
    auto items = with_keys(runtime, sorted, &*path, arguments.flag(1));
    stable_sort(
        runtime, items, [](const Keyed& item) { return item.first; }, arguments.flag(0));
    std::vector<Value> result;
    for (const Keyed& item : items) result.push_back(item.second);
    sorted = runtime.list(std::move(result));
  }
  return sorted;
}

Value filter_dictsort(Runtime& runtime, const Value& input, const Bound& arguments) {
  const auto* dict = object<Dict>(input);
  if (dict == nullptr) {
    if (is_undefined(input)) fail_undefined(runtime, input);
    runtime.fail(fmt::format("dictsort takes a dict, not '{}'", type_name(input)));
  }
  const std::string* by = arguments.text(1);
  if (by != nullptr && *by != "key" && *by != "value")
    runtime.fail("dictsort goes by key or value");
  const bool by_value = by != nullptr && *by == "value";
  std::vector<Keyed> items;
  for (const auto& [key, value] : dict->entries) {
    const Value& sorted_by = by_value ? value : key;
    items.emplace_back(arguments.flag(0) ? sorted_by : ignore_case(runtime, sorted_by),
                       runtime.list({key, value}, Series::tuple));
  }
  stable_sort(
      runtime, items, [](const Keyed& item) { return item.first; }, arguments.flag(2));
  std::vector<Value> result;
  for (const Keyed& item : items) result.push_back(item.second);
  return runtime.list(std::move(result));
}

Value filter_batch(Runtime& runtime, const Value& input, const Bound& arguments) {
  const int64_t size = arguments.integer(0, 0);
  std::vector<Value> batches, batch;
  const auto flush = [&] {
    batches.push_back(runtime.list(std::move(batch)));
    batch.clear();
  };
  for (const Value& item : iterate(runtime, input)) {
    if (static_cast<int64_t>(batch.size()) == size) flush();
    batch.push_back(item);
  }
  const bool fill = arguments[1] != nullptr && !is_none(*arguments[1]);
  if (!batch.empty()) {
    for (auto have = static_cast<int64_t>(batch.size()); fill && have < size; ++have) {
      runtime.charge(sizeof(Value));
      batch.push_back(*arguments[1]);
    }
    flush();
  }
  return stream(runtime, std::move(batches));
}

}  // namespace fewbits::templates
