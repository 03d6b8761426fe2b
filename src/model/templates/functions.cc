#include "model/templates/functions.h"

#include <fmt/format.h>

#include <array>
#include <ctime>

#include "model/templates/operators.h"
#include "model/templates/print.h"

namespace fewbits::templates {
namespace {

constexpr int64_t kMaxRange = 100'000;  // jinja2's sandbox has the same

/// dict(mapping or pairs, name=value, ...)
Dict make_dict(Runtime& runtime, const Arguments& arguments) {
  Dict result;
  if (arguments.positional.size() > 1) runtime.fail("dict and namespace take one value and names");
  for (const Value& source : arguments.positional) {
    if (const auto* dict = object<Dict>(source)) {
      result = *dict;
      continue;
    }
    if (is_undefined(source)) fail_undefined(runtime, source);
    for (const Value& pair : iterate(runtime, source)) {
      const auto parts = iterate(runtime, pair);
      if (parts.size() != 2) runtime.fail("dict takes pairs");
      assign(runtime, result, parts[0], parts[1]);
    }
  }
  for (const auto& [name, value] : arguments.named) {
    assign(runtime, result, runtime.text(std::string(name)), value);
  }
  return result;
}

Value dict(Runtime& runtime, const Bound& arguments) {
  return runtime.dict(make_dict(runtime, arguments.all()));
}

Value space(Runtime& runtime, const Bound& arguments) {
  return runtime.space(make_dict(runtime, arguments.all()));
}

Value raise_exception(Runtime& runtime, const Bound& arguments) {
  runtime.fail(to_text(runtime, *arguments[0]));
}

Value range(Runtime& runtime, const Bound& arguments) {
  const bool only_end = arguments[1] == nullptr;
  const int64_t first = only_end ? 0 : arguments.integer(0, 0);
  const int64_t last = arguments.integer(only_end ? 0 : 1, 0);
  const int64_t step = arguments.integer(2, 1);
  if (step == 0) runtime.fail("range: the step cannot be 0");
  std::vector<Value> items;
  for (int64_t i = first; step > 0 ? i < last : i > last;) {
    if (static_cast<int64_t>(items.size()) == kMaxRange) {
      runtime.fail(fmt::format("a range of more than {}", kMaxRange));
    }
    items.push_back(i);
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  return runtime.list(std::move(items), Series::range);
}

/// The local time now.
Value strftime_now(Runtime& runtime, const Bound& arguments) {
  const std::string* format = arguments.text(0);
  if (format == nullptr || format->size() > 1000) runtime.fail("strftime_now needs a short format");
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  std::string text(16 * format->size() + 256, '\0');  // no conversion writes 256 bytes
  text.resize(std::strftime(text.data(), text.size(), format->c_str(), &local));
  return runtime.text(std::move(text));
}

constexpr auto kFunctions = std::to_array<Function>({
    {"dict", "...", dict},
    {"namespace", "...", space},
    {"raise_exception", "message", raise_exception},
    {"range", "start stop? step?", range},
    {"strftime_now", "format", strftime_now},
});
static_assert(is_sorted_by_name(kFunctions));

}  // namespace

const Function* find_function(std::string_view name) {
  return find_entry(kFunctions, name);
}

Value call_function(Runtime& runtime, const Function& function, const Arguments& arguments) {
  return function.run(runtime, Bound(runtime, function.name, function.signature, arguments));
}

}  // namespace fewbits::templates
