#include "model/templates/methods.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "model/templates/ast.h"
#include "model/templates/operators.h"
#include "model/templates/print.h"
#include "model/templates/unicode.h"

namespace fewbits::templates {
namespace {

const Text& self_text(const Value& self) {
  return *as<Text>(self);
}

/// A string made from `self` by one of its methods.
Value derived(Runtime& runtime, const Value& self, std::string text) {
  return runtime.text(std::move(text), self_text(self).markup);
}

template <std::string (*transform)(std::string_view)>
Value transformed(Runtime& runtime, const Value& self, const Bound&) {
  return derived(runtime, self, transform(self_text(self).view()));
}

enum class Sides { left, right, both };

template <Sides sides>
Value stripped(Runtime& runtime, const Value& self, const Bound& arguments) {
  std::string_view text = self_text(self).view();
  const std::string* set = arguments.text(0);
  const size_t members = set == nullptr ? 1 : set->size();
  runtime.spend(static_cast<int64_t>(text.size() / 256 * members));
  if (sides != Sides::right) text = strip_left(text, set);
  if (sides != Sides::left) text = strip_right(text, set);
  return derived(runtime, self, std::string(text));
}

/// The part of `self` that startswith(x, start, end) and its like look at.
std::string_view window(Runtime& runtime, const Value& self, const Bound& arguments) {
  if (arguments[1] == nullptr) return self_text(self).view();
  const SliceBounds bounds{*arguments[1], arguments[2] == nullptr ? None{} : *arguments[2], None{}};
  return as<Text>(slice(runtime, self, bounds))->view();
}

/// Whether one of the strings that the first argument holds satisfies `match`.
template <class Match>
bool any_affix(Runtime& runtime, const Bound& arguments, Match match) {
  const auto* options = object<List>(*arguments[0]);
  if (options == nullptr || options->series != Series::tuple) {
    const std::string* affix = arguments.text(0);
    if (affix == nullptr) runtime.fail("a string is expected, not 'NoneType'");
    return match(*affix);
  }
  return std::any_of(options->items.begin(), options->items.end(), [&](const Value& option) {
    const auto* affix = as<Text>(option);
    if (affix == nullptr) runtime.fail("a tuple of strings is expected");
    return match(affix->view());
  });
}

Value starts_with(Runtime& runtime, const Value& self, const Bound& arguments) {
  const std::string_view text = window(runtime, self, arguments);
  return any_affix(runtime, arguments,
                   [&](std::string_view prefix) { return text.starts_with(prefix); });
}

Value ends_with(Runtime& runtime, const Value& self, const Bound& arguments) {
  const std::string_view text = window(runtime, self, arguments);
  return any_affix(runtime, arguments,
                   [&](std::string_view suffix) { return text.ends_with(suffix); });
}

const std::string& needed_text(Runtime& runtime, const Bound& arguments, size_t index) {
  const std::string* text = arguments.text(index);
  if (text == nullptr) runtime.fail("a string is expected, not 'NoneType'");
  return *text;
}

Value remove_prefix(Runtime& runtime, const Value& self, const Bound& arguments) {
  std::string_view text = self_text(self).view();
  const std::string& prefix = needed_text(runtime, arguments, 0);
  if (text.starts_with(prefix)) text.remove_prefix(prefix.size());
  return derived(runtime, self, std::string(text));
}

Value remove_suffix(Runtime& runtime, const Value& self, const Bound& arguments) {
  std::string_view text = self_text(self).view();
  const std::string& suffix = needed_text(runtime, arguments, 0);
  if (text.ends_with(suffix)) text.remove_suffix(suffix.size());
  return derived(runtime, self, std::string(text));
}

Value replace_in(Runtime& runtime, const Value& self, const Bound& arguments) {
  return derived(runtime, self,
                 replace(runtime, self_text(self).view(), needed_text(runtime, arguments, 0),
                         needed_text(runtime, arguments, 1), arguments.integer(2, -1)));
}

Value count_in(Runtime& runtime, const Value& self, const Bound& arguments) {
  const std::string_view text = window(runtime, self, arguments);
  const std::string& part = needed_text(runtime, arguments, 0);
  runtime.spend(static_cast<int64_t>(text.size() / 256));
  if (part.empty()) return count_characters(text) + 1;
  int64_t count = 0;
  for (size_t at = find_text(text, part); at != std::string_view::npos;
       at = find_text(text, part, at + part.size())) {
    ++count;
  }
  return count;
}

/// As text.rfind(part), which can take as long as both sizes multiplied.
size_t find_last(Runtime& runtime, std::string_view text, std::string_view part) {
  const size_t starts = text.size() - std::min(text.size(), part.size()) + 1;
  runtime.spend(static_cast<int64_t>(starts / 64 * std::max<size_t>(part.size(), 64) / 64));
  return text.rfind(part);
}

template <bool from_right>
Value find_in(Runtime& runtime, const Value& self, const Bound& arguments) {
  const std::string_view text = self_text(self).view();
  const std::string& part = needed_text(runtime, arguments, 0);
  runtime.spend(static_cast<int64_t>(text.size() / 256));
  const size_t at = from_right ? find_last(runtime, text, part) : find_text(text, part);
  return at == std::string_view::npos ? int64_t{-1} : count_characters(text.substr(0, at));
}

using Pieces = std::vector<std::string_view>;

/// At most `limit` cuts from the left at each `separator`.
Pieces cut_left(std::string_view text, std::string_view separator, int64_t limit) {
  Pieces pieces;
  size_t at = find_text(text, separator);
  for (; at != std::string_view::npos && limit != 0; --limit, at = find_text(text, separator)) {
    pieces.push_back(text.substr(0, at));
    text.remove_prefix(at + separator.size());
  }
  pieces.push_back(text);
  return pieces;
}

/// The same from the right.
Pieces cut_right(Runtime& runtime, std::string_view text, std::string_view separator,
                 int64_t limit) {
  Pieces pieces;
  size_t at = find_last(runtime, text, separator);
  for (; at != std::string_view::npos && limit != 0;
       --limit, at = find_last(runtime, text, separator)) {
    pieces.push_back(text.substr(at + separator.size()));
    text = text.substr(0, at);
  }
  pieces.push_back(text);
  std::reverse(pieces.begin(), pieces.end());
  return pieces;
}

/// At runs of white space; none at the ends gives an empty piece.
Pieces cut_words_left(std::string_view text, int64_t limit) {
  Pieces pieces;
  for (text = strip_left(text); !text.empty(); text = strip_left(text)) {
    size_t end = 0;
    while (end < text.size() && !is_space(code_point(character_at(text, end)))) {
      end += character_at(text, end).size();
    }
    if (limit-- == 0) end = text.size();
    pieces.push_back(text.substr(0, end));
    text.remove_prefix(end);
  }
  return pieces;
}

Pieces cut_words_right(std::string_view text, int64_t limit) {
  Pieces pieces = cut_words_left(text, -1);
  const auto count = static_cast<int64_t>(pieces.size());
  if (limit < 0 || count <= limit) return pieces;
  const auto merged = static_cast<size_t>(count - limit);  // the first ones stay together
  const std::string_view last = pieces[merged - 1];
  const char* begin = strip_left(text).data();
  pieces.erase(pieces.begin(), pieces.begin() + static_cast<std::ptrdiff_t>(merged));
  pieces.insert(pieces.begin(),
                std::string_view(begin, static_cast<size_t>(last.data() + last.size() - begin)));
  return pieces;
}

Value pieces_list(Runtime& runtime, const Value& self, const Pieces& pieces) {
  std::vector<Value> items;
  for (const std::string_view piece : pieces) {
    items.push_back(derived(runtime, self, std::string(piece)));
  }
  return runtime.list(std::move(items));
}

template <bool from_right>
Value split(Runtime& runtime, const Value& self, const Bound& arguments) {
  const std::string_view text = self_text(self).view();
  const std::string* separator = arguments.text(0);
  const int64_t limit = arguments.integer(1, -1);
  runtime.charge(text.size());
  if (separator == nullptr) {
    const Pieces pieces =
        from_right && limit >= 0 ? cut_words_right(text, limit) : cut_words_left(text, limit);
    return pieces_list(runtime, self, pieces);
  }
  if (separator->empty()) runtime.fail("split needs a separator that is not empty");
  return pieces_list(
      runtime, self,
      from_right ? cut_right(runtime, text, *separator, limit) : cut_left(text, *separator, limit));
}

template <bool from_right>
Value partition(Runtime& runtime, const Value& self, const Bound& arguments) {
  const std::string_view text = self_text(self).view();
  const std::string& separator = needed_text(runtime, arguments, 0);
  if (separator.empty()) runtime.fail("partition needs a separator that is not empty");
  const size_t at = from_right ? find_last(runtime, text, separator) : find_text(text, separator);
  const bool found = at != std::string_view::npos;
  Pieces pieces{text, "", ""};
  if (found) pieces = {text.substr(0, at), separator, text.substr(at + separator.size())};
  if (!found && from_right) std::swap(pieces[0], pieces[2]);
  const Value parts = pieces_list(runtime, self, pieces);
  return runtime.list(object<List>(parts)->items, Series::tuple);
}

Value lines(Runtime& runtime, const Value& self, const Bound&) {
  runtime.charge(self_text(self).view().size());
  return pieces_list(runtime, self, split_lines(self_text(self).view()));
}

Value join_with(Runtime& runtime, const Value& self, const Bound& arguments) {
  Writer out(runtime);
  bool first = true;
  for (const Value& item : iterate(runtime, *arguments[0])) {
    const auto* text = as<Text>(item);
    if (text == nullptr) runtime.fail(fmt::format("join takes strings, not '{}'", type_name(item)));
    if (!first) out.add(self_text(self).view());
    out.add(text->view());
    first = false;
  }
  return derived(runtime, self, out.take());
}

template <bool (*test)(int32_t), bool of_empty>
Value all_characters(Runtime& runtime, const Value& self, const Bound&) {
  const std::string_view text = self_text(self).view();
  runtime.spend(static_cast<int64_t>(text.size() / 256));
  bool all = of_empty || !text.empty();
  for_each_character(text,
                     [&](std::string_view character) { all = all && test(code_point(character)); });
  return all;
}

template <bool (*test)(std::string_view)>
Value whole_text(Runtime& runtime, const Value& self, const Bound&) {
  runtime.spend(static_cast<int64_t>(self_text(self).view().size() / 256));
  return test(self_text(self).view());
}

/// The values of a format string's fields: {} in order, {1} and {name}.
class FormatFields {
 public:
  FormatFields(Runtime& runtime, const Arguments& given) : runtime_(runtime), given_(given) {}

  const Value& operator[](std::string_view name) {
    const bool number = name.find_first_not_of("0123456789") == std::string_view::npos;
    if (number && name.size() < 9) {
      const size_t index = name.empty() ? automatic_++ : std::stoul(std::string(name));
      if (index < given_.positional.size()) return given_.positional[index];
    }
    for (const auto& [key, value] : given_.named) {
      if (key == name) return value;
    }
    runtime_.fail(fmt::format("format has no value for '{{{}}}'", name));
  }

 private:
  Runtime& runtime_;
  const Arguments& given_;
  size_t automatic_ = 0;
};

/// str.format, without conversions and format specifications.
Value format(Runtime& runtime, const Value& self, const Bound& arguments) {
  const std::string_view text = self_text(self).view();
  FormatFields fields(runtime, arguments.all());
  Writer out(runtime);
  for (size_t at = 0; at < text.size();) {
    const size_t brace = std::min(text.find_first_of("{}", at), text.size());
    out.add(text.substr(at, brace - at));
    if (brace == text.size()) break;
    if (text.substr(brace, 2) == "{{" || text.substr(brace, 2) == "}}") {
      out.add(text.substr(brace, 1));
      at = brace + 2;
      continue;
    }
    const size_t end = text.find('}', brace);
    if (text[brace] == '}' || end == std::string_view::npos) runtime.fail("format: a single brace");
    out.add(to_text(runtime, fields[text.substr(brace + 1, end - brace - 1)]));
    at = end + 1;
  }
  return derived(runtime, self, out.take());
}

Value dict_get(Runtime& runtime, const Value& self, const Bound& arguments) {
  const Value* found = find(runtime, *object<Dict>(self), *arguments[0]);
  if (found != nullptr) return *found;
  return arguments[1] == nullptr ? None{} : *arguments[1];
}

Value dict_keys(Runtime& runtime, const Value& self, const Bound&) {
  std::vector<Value> items;
  for (const auto& [key, value] : object<Dict>(self)->entries) items.push_back(key);
  return runtime.list(std::move(items), Series::keys);
}

Value dict_values(Runtime& runtime, const Value& self, const Bound&) {
  std::vector<Value> items;
  for (const auto& [key, value] : object<Dict>(self)->entries) items.push_back(value);
  return runtime.list(std::move(items), Series::values);
}

Value dict_items(Runtime& runtime, const Value& self, const Bound&) {
  std::vector<Value> items;
  for (const auto& [key, value] : object<Dict>(self)->entries) {
    items.push_back(runtime.list({key, value}, Series::tuple));
  }
  return runtime.list(std::move(items), Series::items);
}

/// Values never change, so a copy is the value.
Value copy(Runtime&, const Value& self, const Bound&) {
  return self;
}

Value list_count(Runtime& runtime, const Value& self, const Bound& arguments) {
  const auto& items = object<List>(self)->items;
  return static_cast<int64_t>(std::count_if(items.begin(), items.end(), [&](const Value& item) {
    return equal(runtime, item, *arguments[0]);
  }));
}

Value list_index(Runtime& runtime, const Value& self, const Bound& arguments) {
  const auto& items = object<List>(self)->items;
  for (size_t i = 0; i < items.size(); ++i) {
    if (equal(runtime, items[i], *arguments[0])) return static_cast<int64_t>(i);
  }
  runtime.fail("index: the value is not in the list");
}

Value loop_cycle(Runtime& runtime, const Value& self, const Bound& arguments) {
  const auto& items = arguments.all().positional;
  if (items.empty()) runtime.fail("loop.cycle needs arguments");
  return items[static_cast<size_t>((*std::get_if<Loop*>(&self))->index0) % items.size()];
}

constexpr auto kMethods = std::to_array<MethodEntry>({
    {"dict.clear", "...", nullptr},
    {"dict.copy", "", copy},
    {"dict.get", "key default?", dict_get},
    {"dict.items", "", dict_items},
    {"dict.keys", "", dict_keys},
    {"dict.pop", "...", nullptr},
    {"dict.popitem", "...", nullptr},
    {"dict.setdefault", "...", nullptr},
    {"dict.update", "...", nullptr},
    {"dict.values", "", dict_values},
    {"list.append", "...", nullptr},
    {"list.clear", "...", nullptr},
    {"list.copy", "", copy},
    {"list.count", "value", list_count},
    {"list.extend", "...", nullptr},
    {"list.index", "value", list_index},
    {"list.insert", "...", nullptr},
    {"list.pop", "...", nullptr},
    {"list.remove", "...", nullptr},
    {"list.reverse", "...", nullptr},
    {"list.sort", "...", nullptr},
    {"loop.cycle", "...", loop_cycle},
    {"str.capitalize", "", transformed<capitalize>},
    {"str.count", "sub start? end?", count_in},
    {"str.endswith", "suffix start? end?", ends_with},
    {"str.find", "sub", find_in<false>},
    {"str.format", "...", format},
    {"str.islower", "", whole_text<is_lower>},
    {"str.isprintable", "", all_characters<is_printable, true>},
    {"str.isspace", "", all_characters<is_space, false>},
    {"str.isupper", "", whole_text<is_upper>},
    {"str.join", "iterable", join_with},
    {"str.lower", "", transformed<lower>},
    {"str.lstrip", "chars?", stripped<Sides::left>},
    {"str.partition", "sep", partition<false>},
    {"str.removeprefix", "prefix", remove_prefix},
    {"str.removesuffix", "suffix", remove_suffix},
    {"str.replace", "old new count?", replace_in},
    {"str.rfind", "sub", find_in<true>},
    {"str.rpartition", "sep", partition<true>},
    {"str.rsplit", "sep? maxsplit?", split<true>},
    {"str.rstrip", "chars?", stripped<Sides::right>},
    {"str.split", "sep? maxsplit?", split<false>},
    {"str.splitlines", "", lines},
    {"str.startswith", "prefix start? end?", starts_with},
    {"str.strip", "chars?", stripped<Sides::both>},
    {"str.title", "", transformed<title>},
    {"str.upper", "", transformed<upper>},
    {"tuple.count", "value", list_count},
    {"tuple.index", "value", list_index},
});
static_assert(is_sorted_by_name(kMethods));

/// Methods of Python's strings and dicts that templates do without.
constexpr auto kUnsupported = std::to_array<std::string_view>(
    {"dict.fromkeys",  "str.casefold",  "str.center",       "str.encode",    "str.expandtabs",
     "str.format_map", "str.index",     "str.isalnum",      "str.isalpha",   "str.isascii",
     "str.isdecimal",  "str.isdigit",   "str.isidentifier", "str.isnumeric", "str.istitle",
     "str.ljust",      "str.maketrans", "str.rindex",       "str.rjust",     "str.swapcase",
     "str.translate",  "str.zfill"});

}  // namespace

std::optional<Value> find_method(Runtime& runtime, const Value& value, std::string_view name) {
  const bool is_loop = std::get_if<Loop*>(&value) != nullptr;
  const auto* list = object<List>(value);
  const bool bare =
      list != nullptr && list->series != Series::list && list->series != Series::tuple;
  if (bare) return std::nullopt;
  const std::string full = fmt::format("{}.{}", is_loop ? "loop" : type_name(value), name);
  if (std::find(kUnsupported.begin(), kUnsupported.end(), full) != kUnsupported.end()) {
    runtime.fail(fmt::format("the method {} is not supported", full));
  }
  const MethodEntry* entry = find_entry(kMethods, full);
  if (entry == nullptr) return std::nullopt;
  if (entry->run == nullptr) return Undefined{entry->name};
  return runtime.method(entry, value);
}

Value call_method(Runtime& runtime, const Method& method, const Arguments& arguments) {
  const MethodEntry& entry = *method.entry;
  return entry.run(runtime, method.self, Bound(runtime, entry.name, entry.signature, arguments));
}

Value macro_name(Runtime& runtime, const Macro& macro) {
  return runtime.text(std::string(macro.definition->name));
}

std::string replace(Runtime& runtime, std::string_view text, std::string_view old,
                    std::string_view replacement, int64_t count) {
  Writer out(runtime);
  size_t at = 0;
  for (; count != 0; --count) {
    const size_t found = find_text(text, old, at);
    if (found == std::string_view::npos) break;
    out.add(text.substr(at, found - at));
    out.add(replacement);
    at = found + old.size();
    if (!old.empty()) continue;
    if (at == text.size()) return out.take();
    const std::string_view character = character_at(text, at);  // "" is found between characters
    out.add(character);
    at += character.size();
  }
  out.add(text.substr(at));
  return out.take();
}

}  // namespace fewbits::templates
