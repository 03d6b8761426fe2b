#include "model/templates/print.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "model/templates/ast.h"
#include "model/templates/operators.h"
#include "model/templates/unicode.h"

namespace fewbits::templates {
namespace {

constexpr auto kTypeNames = std::to_array<std::string_view>(
    {"Undefined", "NoneType", "bool", "int", "float", "str", "list", "dict", "Namespace",
     "LoopContext", "Macro", "method", "function"});
static_assert(kTypeNames.size() == std::variant_size_v<Value>);

/// As Python prints a character inside quotes.
std::string repr_character(std::string_view character, char quote) {
  const int32_t point = code_point(character);
  if (point == quote || point == '\\') return fmt::format("\\{}", character);
  if (point == '\n') return "\\n";
  if (point == '\r') return "\\r";
  if (point == '\t') return "\\t";
  if (point < 0 || is_printable(point)) return std::string(character);
  if (point < 0x100) return fmt::format("\\x{:02x}", point);
  if (point < 0x10000) return fmt::format("\\u{:04x}", point);
  return fmt::format("\\U{:08x}", point);
}

std::string repr_text(std::string_view text) {
  const bool quotes = text.find('\'') != std::string_view::npos;
  const char quote = quotes && text.find('"') == std::string_view::npos ? '"' : '\'';
  std::string out(1, quote);
  for_each_character(text,
                     [&](std::string_view character) { out += repr_character(character, quote); });
  return out + quote;
}

class ReprPrinter {
 public:
  explicit ReprPrinter(Runtime& runtime) : runtime_(runtime), out_(runtime) {}

  std::string run(const Value& value) {
    print(value);
    return out_.take();
  }

 private:
  void print(const Value& value) {
    const Runtime::Level level(runtime_);
    runtime_.spend();
    if (const auto* list = object<List>(value)) return print_list(*list);
    if (const auto* dict = object<Dict>(value)) return print_dict(*dict);
    if (const auto* text = as<Text>(value)) return print_text(*text);
    if (is_undefined(value)) return out_.add("Undefined");
    if (is_none(value)) return out_.add("None");
    if (const auto* flag = as<bool>(value)) return out_.add(*flag ? "True" : "False");
    if (const auto* number = as<int64_t>(value)) return out_.add(std::to_string(*number));
    if (const auto* number = as<double>(value)) return out_.add(float_text(*number));
    if (const auto* macro = object<Macro>(value)) {
      return out_.add(fmt::format("<Macro '{}'>", (*macro).definition->name));
    }
    if (const auto* space = std::get_if<Namespace*>(&value)) {
      out_.add("<Namespace ");
      print_dict((*space)->fields);
      return out_.add(">");
    }
    runtime_.fail(fmt::format("a {} cannot be printed", type_name(value)));
  }

  void print_text(const Text& text) {
    const std::string quoted = repr_text(text.view());
    out_.add(text.markup ? fmt::format("Markup({})", quoted) : quoted);
  }

  void print_list(const List& list) {
    std::string_view begin = "[", end = "]";
    switch (list.series) {
      case Series::list:
        break;
      case Series::tuple:
        begin = "(", end = list.items.size() == 1 ? ",)" : ")";
        break;
      case Series::keys:
        begin = "dict_keys([", end = "])";
        break;
      case Series::values:
        begin = "dict_values([", end = "])";
        break;
      case Series::items:
        begin = "dict_items([", end = "])";
        break;
      default:
        runtime_.fail("a range or the result of a lazy filter cannot be printed: use |list");
    }
    out_.add(begin);
    for (size_t i = 0; i < list.items.size(); ++i) {
      if (i > 0) out_.add(", ");
      print(list.items[i]);
    }
    out_.add(end);
  }

  void print_dict(const Dict& dict) {
    out_.add("{");
    for (size_t i = 0; i < dict.entries.size(); ++i) {
      if (i > 0) out_.add(", ");
      print(dict.entries[i].first);
      out_.add(": ");
      print(dict.entries[i].second);
    }
    out_.add("}");
  }

  Runtime& runtime_;
  Writer out_;
};

class JsonPrinter {
 public:
  JsonPrinter(Runtime& runtime, const JsonStyle& style)
      : runtime_(runtime), style_(style), out_(runtime) {}

  std::string run(const Value& value) {
    print(value);
    return out_.take();
  }

 private:
  void print(const Value& value) {
    const Runtime::Level level(runtime_);
    runtime_.spend();
    if (const auto* list = object<List>(value)) return print_list(*list);
    if (const auto* dict = object<Dict>(value)) return print_dict(*dict);
    if (const auto* text = as<Text>(value)) return print_text(text->view());
    out_.add(scalar(value));
  }

  std::string scalar(const Value& value) {
    if (is_none(value)) return "null";
    if (const auto* flag = as<bool>(value)) return *flag ? "true" : "false";
    if (const auto* number = as<int64_t>(value)) return std::to_string(*number);
    const auto* number = as<double>(value);
    if (number == nullptr) {
      runtime_.fail(fmt::format("'{}' cannot be written as JSON", type_name(value)));
    }
    if (std::isnan(*number)) return "NaN";
    if (std::isinf(*number)) return *number > 0 ? "Infinity" : "-Infinity";
    return float_text(*number);
  }

  void print_list(const List& list) {
    if (list.series != Series::list && list.series != Series::tuple) {
      runtime_.fail("a range, a view or the result of a lazy filter has no JSON form: use |list");
    }
    if (list.items.empty()) return out_.add("[]");
    out_.add("[");
    for (size_t i = 0; i < list.items.size(); ++i) {
      begin_item(i);
      print(list.items[i]);
    }
    end_items();
    out_.add("]");
  }

  void print_dict(const Dict& dict) {
    if (dict.entries.empty()) return out_.add("{}");
    std::vector<const std::pair<Value, Value>*> entries;
    for (const auto& entry : dict.entries) entries.push_back(&entry);
    if (style_.sort_keys) {
      stable_sort(runtime_, entries, [](const auto* entry) { return entry->first; });
    }
    out_.add("{");
    for (size_t i = 0; i < entries.size(); ++i) {
      begin_item(i);
      print_key(entries[i]->first);
      out_.add(style_.key_separator);
      print(entries[i]->second);
    }
    end_items();
    out_.add("}");
  }

  void print_key(const Value& key) {
    if (const auto* text = as<Text>(key)) return print_text(text->view());
    if (object<List>(key) != nullptr) runtime_.fail("a key of a JSON object must be a string");
    out_.add(fmt::format("\"{}\"", scalar(key)));
  }

  void begin_item(size_t index) {
    if (index > 0) out_.add(style_.item_separator);
    if (index == 0) ++depth_;
    new_line();
  }

  void end_items() {
    --depth_;
    new_line();
  }

  void new_line() {
    if (!style_.indented) return;
    out_.add("\n");
    for (int i = 0; i < depth_; ++i) out_.add(style_.indent);
  }

  void print_text(std::string_view text) {
    out_.add("\"");
    size_t plain = 0;  // begin of what needs no escape
    for (size_t at = 0; at < text.size();) {
      const std::string_view character = character_at(text, at);
      const std::string escaped = escape(character);
      at += character.size();
      if (escaped.empty()) continue;
      out_.add(text.substr(plain, at - character.size() - plain));
      out_.add(escaped);
      plain = at;
    }
    out_.add(text.substr(plain));
    out_.add("\"");
  }

  /// Empty where `character` stays.
  std::string escape(std::string_view character) const {
    constexpr std::string_view kNames = "\"\\\n\r\t\f\b";
    constexpr std::string_view kLetters = "\"\\nrtfb";
    const int32_t point = code_point(character);
    const size_t known = character.size() == 1 ? kNames.find(character[0]) : std::string_view::npos;
    if (known != std::string_view::npos) return std::string("\\") + kLetters[known];
    if (point >= 0 && point < 0x20) return fmt::format("\\u{:04x}", point);
    if (point < 0x7f || !style_.ascii) return {};
    if (point < 0x10000) return fmt::format("\\u{:04x}", point);
    const int32_t rest = point - 0x10000;
    return fmt::format("\\u{:04x}\\u{:04x}", 0xd800 + (rest >> 10), 0xdc00 + (rest & 0x3ff));
  }

  Runtime& runtime_;
  const JsonStyle& style_;
  Writer out_;
  int depth_ = 0;
};

}  // namespace

std::string to_text(Runtime& runtime, const Value& value) {
  if (const auto* text = as<Text>(value)) return std::string(text->view());
  if (is_undefined(value)) return {};
  return ReprPrinter(runtime).run(value);
}

std::string to_repr(Runtime& runtime, const Value& value) {
  return ReprPrinter(runtime).run(value);
}

std::string float_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  if (value == 0) return std::signbit(value) ? "-0.0" : "0.0";
  // Python writes exponents from 1e16 up and below 1e-4.
  const double size = std::abs(value);
  const bool exponent = size >= 1e16 || size < 1e-4;
  std::array<char, 64> buffer;
  const auto result =
      std::to_chars(buffer.data(), buffer.data() + buffer.size(), value,
                    exponent ? std::chars_format::scientific : std::chars_format::fixed);
  std::string text(buffer.data(), result.ptr);
  if (!exponent && text.find('.') == std::string::npos) text += ".0";
  return text;
}

std::string_view type_name(const Value& value) {
  if (const auto* list = object<List>(value); list != nullptr && list->series == Series::tuple) {
    return "tuple";
  }
  return kTypeNames[value.index()];
}

std::string to_json(Runtime& runtime, const Value& value, const JsonStyle& style) {
  return JsonPrinter(runtime, style).run(value);
}

}  // namespace fewbits::templates
