#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <optional>

#include "model/templates/filter_functions.h"
#include "model/templates/methods.h"
#include "model/templates/operators.h"
#include "model/templates/print.h"
#include "model/templates/unicode.h"

namespace fewbits::templates {
namespace {

/// The input as a string; one that is a string already keeps its mark.
Text as_text(Runtime& runtime, const Value& value) {
  if (const auto* text = as<Text>(value)) return *text;
  return *as<Text>(runtime.text(to_text(runtime, value)));
}

template <std::string (*transform)(std::string_view)>
Value transformed(Runtime& runtime, const Value& input) {
  const Text text = as_text(runtime, input);
  return runtime.text(transform(text.view()), text.markup);
}

/// Digits with single underscores between them, as Python's int() and float() take them.
std::optional<std::string> without_underscores(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_') {
      out += text[i];
      continue;
    }
    const auto digit = [&](size_t at) {
      return at < text.size() && std::isxdigit(static_cast<unsigned char>(text[at]));
    };
    if (i == 0 || !digit(i - 1) || !digit(i + 1)) return std::nullopt;
  }
  return out;
}

/// int(text, base)
std::optional<int64_t> parse_integer(Runtime& runtime, std::string_view text, int64_t base) {
  const auto digits = without_underscores(strip_left(strip_right(text)));
  if (!digits || digits->empty() || std::isspace(static_cast<unsigned char>((*digits)[0]))) {
    return std::nullopt;
  }
  if (base < 0 || base == 1 || base > 36) return std::nullopt;
  const size_t begin = (*digits)[0] == '-' || (*digits)[0] == '+';
  const bool prefixed = digits->size() > begin + 1 && (*digits)[begin] == '0';
  const char letter = prefixed ? static_cast<char>((*digits)[begin + 1] | 0x20) : '\0';
  std::string plain = *digits;
  const int64_t prefix_base = letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 0;
  if (prefix_base != 0 && (base == 0 || base == prefix_base)) {
    plain.erase(begin, 2);
    base = prefix_base;
  } else if (base == 0) {
    base = 10;
  }
  if (plain.size() == begin || !std::isalnum(static_cast<unsigned char>(plain[begin]))) {
    return std::nullopt;
  }
  char* end = nullptr;
  errno = 0;
  const int64_t value = std::strtoll(plain.c_str(), &end, static_cast<int>(base));
  if (end != plain.c_str() + plain.size()) return std::nullopt;
  if (errno == ERANGE) runtime.fail("|int: a number above 2^63");
  return value;
}

/// float(text)
std::optional<double> parse_float(std::string_view text) {
  const auto plain = without_underscores(strip_left(strip_right(text)));
  // strtod also takes hexadecimal numbers and nan(...), which Python does not.
  if (!plain || plain->empty() || plain->find_first_of("xXpP( ") != std::string::npos) {
    return std::nullopt;
  }
  char* end = nullptr;
  const double value = std::strtod(plain->c_str(), &end);
  if (end != plain->c_str() + plain->size()) return std::nullopt;
  return value;
}

/// int(float), or nothing where Python raises ValueError.
std::optional<int64_t> truncate(Runtime& runtime, double value) {
  if (std::isnan(value)) return std::nullopt;
  if (std::abs(value) >= 0x1p63) runtime.fail("|int: a number above 2^63");
  return static_cast<int64_t>(value);
}

/// A whole number times `unit`, or a string as it is: how deep to indent.
std::string indentation(Runtime& runtime, const Value& width) {
  if (const auto* text = as<Text>(width)) return std::string(text->view());
  if (!is_integer(width)) runtime.fail("indent takes a whole number or a string");
  const int64_t count = std::max<int64_t>(to_integer(width), 0);
  runtime.charge(static_cast<size_t>(count));
  return std::string(static_cast<size_t>(count), ' ');
}

}  // namespace

Value filter_capitalize(Runtime& runtime, const Value& input, const Bound&) {
  return transformed<capitalize>(runtime, input);
}

Value filter_lower(Runtime& runtime, const Value& input, const Bound&) {
  return transformed<lower>(runtime, input);
}

Value filter_upper(Runtime& runtime, const Value& input, const Bound&) {
  return transformed<upper>(runtime, input);
}

Value filter_title(Runtime& runtime, const Value& input, const Bound&) {
  return transformed<title_words>(runtime, input);
}

Value filter_string(Runtime& runtime, const Value& input, const Bound&) {
  return as_text(runtime, input);
}

Value filter_safe(Runtime& runtime, const Value& input, const Bound&) {
  return Text{as_text(runtime, input).bytes, true};
}

Value filter_escape(Runtime& runtime, const Value& input, const Bound&) {
  const Text text = as_text(runtime, input);
  if (text.markup) return text;
  runtime.charge(5 * text.view().size());
  return runtime.text(escape_html(text.view()), true);
}

Value filter_trim(Runtime& runtime, const Value& input, const Bound& arguments) {
  const Text text = as_text(runtime, input);
  const std::string* set = arguments.text(0);
  const size_t members = set == nullptr ? 1 : set->size();
  runtime.spend(static_cast<int64_t>(text.view().size() / 256 * members));
  return runtime.text(std::string(strip_right(strip_left(text.view(), set), set)), text.markup);
}

Value filter_replace(Runtime& runtime, const Value& input, const Bound& arguments) {
  const Text text = as_text(runtime, input);
  const Text old = as_text(runtime, *arguments[0]);
  const Text replacement = as_text(runtime, *arguments[1]);
  const bool all = arguments[2] == nullptr || is_none(*arguments[2]);
  return runtime.text(replace(runtime, text.view(), old.view(), replacement.view(),
                              all ? -1 : arguments.integer(2, -1)));
}

Value filter_indent(Runtime& runtime, const Value& input, const Bound& arguments) {
  const auto* text = as<Text>(input);
  if (text == nullptr)
    runtime.fail(fmt::format("indent takes a string, not '{}'", type_name(input)));
  const std::string indent =
      indentation(runtime, arguments[0] == nullptr ? int64_t{4} : *arguments[0]);
  const bool first = arguments.flag(1), blank = arguments.flag(2);
  runtime.charge(text->view().size());
  Writer out(runtime);
  if (first) out.add(indent);
  const std::string ended = std::string(text->view()) + "\n";  // so that an empty last line counts
  bool begun = false;
  for (const std::string_view line : split_lines(ended)) {
    if (begun) out.add("\n");
    if (begun && (blank || !line.empty())) out.add(indent);
    out.add(line);
    begun = true;
  }
  return runtime.text(out.take(), text->markup);
}

Value filter_int(Runtime& runtime, const Value& input, const Bound& arguments) {
  if (is_undefined(input)) fail_undefined(runtime, input);
  if (is_integer(input)) return to_integer(input);
  std::optional<double> number;
  if (const auto* text = as<Text>(input)) {
    const auto value = parse_integer(runtime, text->view(), arguments.integer(1, 10));
    if (value) return *value;
    number = parse_float(text->view());
    if (number && std::isinf(*number)) number.reset();
  } else if (const auto* value = as<double>(input)) {
    number = *value;
  }
  const auto whole = number ? truncate(runtime, *number) : std::nullopt;
  if (whole) return *whole;
  return arguments[0] == nullptr ? int64_t{0} : *arguments[0];
}

Value filter_float(Runtime& runtime, const Value& input, const Bound& arguments) {
  if (is_undefined(input)) fail_undefined(runtime, input);
  if (is_number(input)) return to_double(input);
  const auto* text = as<Text>(input);
  const auto value = text == nullptr ? std::nullopt : parse_float(text->view());
  if (value) return *value;
  return arguments[0] == nullptr ? 0.0 : *arguments[0];
}

Value filter_abs(Runtime& runtime, const Value& input, const Bound&) {
  if (const auto* number = as<double>(input)) return std::abs(*number);
  if (!is_integer(input)) {
    if (is_undefined(input)) fail_undefined(runtime, input);
    runtime.fail(fmt::format("abs takes a number, not '{}'", type_name(input)));
  }
  return to_integer(input) < 0 ? negate(runtime, input) : to_integer(input);
}

Value filter_round(Runtime& runtime, const Value& input, const Bound& arguments) {
  if (!is_number(input))
    runtime.fail(fmt::format("round takes a number, not '{}'", type_name(input)));
  const int64_t precision = std::clamp<int64_t>(arguments.integer(0, 0), -400, 400);
  const std::string* given = arguments.text(1);
  const std::string_view method = given == nullptr ? "common" : std::string_view(*given);
  const double value = to_double(input);
  const double unit = std::pow(10.0, static_cast<double>(precision));
  if (method == "ceil") return std::ceil(value * unit) / unit;
  if (method == "floor") return std::floor(value * unit) / unit;
  if (method != "common") runtime.fail("round goes by 'common', 'ceil' or 'floor'");
  if (is_integer(input) && precision >= 0) return to_integer(input);
  if (precision < 0) {
    const double rounded = std::nearbyint(value * unit) / unit;
    if (is_integer(input)) return static_cast<int64_t>(rounded);
    return rounded;
  }
  if (!std::isfinite(value)) return value;
  return std::strtod(fmt::format("{:.{}f}", value, precision).c_str(), nullptr);
}

Value filter_tojson(Runtime& runtime, const Value& input, const Bound& arguments) {
  JsonStyle style;
  style.ascii = arguments.flag(0);
  style.sort_keys = arguments.flag(3);
  style.indented = arguments[1] != nullptr && !is_none(*arguments[1]);
  if (style.indented) style.indent = indentation(runtime, *arguments[1]);
  style.item_separator = style.indented ? "," : ", ";
  style.key_separator = ": ";
  if (arguments[2] != nullptr && !is_none(*arguments[2])) {
    const auto* pair = object<List>(*arguments[2]);
    const bool good = pair != nullptr && pair->items.size() == 2 && is_text(pair->items[0]) &&
                      is_text(pair->items[1]);
    if (!good) runtime.fail("tojson: separators are two strings");
    style.item_separator = as<Text>(pair->items[0])->view();
    style.key_separator = as<Text>(pair->items[1])->view();
  }
  return runtime.text(to_json(runtime, input, style));
}

}  // namespace fewbits::templates
