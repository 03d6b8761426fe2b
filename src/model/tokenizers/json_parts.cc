#include "model/tokenizers/json_parts.h"

#include <fmt/format.h>

#include "base/error.h"
#include "base/text.h"

namespace fewbits {

std::vector<const Json*> flatten_sequence(const Json& part, const char* list_key,
                                          std::string_view where) {
  std::vector<const Json*> steps;
  std::vector<const Json*> open = {&part};
  while (!open.empty()) {
    const Json& next = *open.back();
    open.pop_back();
    if (next.is_null()) continue;
    if (json_string(next, "type", where) != "Sequence") {
      steps.push_back(&next);
      continue;
    }
    const Json& list = json_member(next, list_key);
    if (!list.is_array()) throw Error(fmt::format("{}: '{}' must be a list", where, list_key));
    for (auto step = list.rbegin(); step != list.rend(); ++step) open.push_back(&*step);
  }
  return steps;
}

TextPattern pattern_from_json(const Json& step, const char* key, std::string_view where) {
  const Json& pattern = json_member(step, key);
  const Json& text = json_member(pattern, "String");
  if (text.is_string()) return TextPattern::literal(text.get<std::string>());
  const Json& regex = json_member(pattern, "Regex");
  if (regex.is_string()) return TextPattern::regex(regex.get<std::string>(), where);
  throw Error(fmt::format("{}: '{}' must hold a String or a Regex", where, key));
}

void unknown_part(std::string_view kind, std::string_view name,
                  const std::vector<std::string>& known, std::string_view where) {
  throw Error(
      fmt::format("{}: {} '{}' is not supported; known: {}", where, kind, name, join(known)));
}

const Json& json_member(const Json& object, const char* key) {
  static const Json kNull;
  if (!object.is_object()) return kNull;
  const auto found = object.find(key);
  return found == object.end() ? kNull : *found;
}

}  // namespace fewbits
