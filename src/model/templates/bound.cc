#include "model/templates/bound.h"

#include <fmt/format.h>

#include "model/templates/operators.h"
#include "model/templates/print.h"

namespace fewbits::templates {

Bound::Bound(Runtime& runtime, std::string_view callee, std::string_view signature,
             const Arguments& arguments)
    : runtime_(runtime), callee_(callee), all_(arguments) {
  if (signature == "...") return;
  size_t positional = 0, named = 0;
  while (!signature.empty()) {
    const size_t end = std::min(signature.find(' '), signature.size());
    std::string_view name = signature.substr(0, end);
    signature.remove_prefix(std::min(end + 1, signature.size()));
    const bool optional = name.back() == '?';
    if (optional) name.remove_suffix(1);

    const Value* value = nullptr;
    if (positional < arguments.positional.size()) value = &arguments.positional[positional++];
    for (const auto& [key, item] : arguments.named) {
      if (key != name || value != nullptr) continue;
      value = &item;
      ++named;
    }
    if (value == nullptr && !optional) {
      runtime.fail(fmt::format("'{}' needs its argument '{}'", callee, name));
    }
    values_.push_back(value);
  }
  if (positional < arguments.positional.size() || named < arguments.named.size()) {
    runtime.fail(fmt::format("'{}' has too many or unknown arguments", callee));
  }
}

bool Bound::flag(size_t index, bool fallback) const {
  return values_[index] == nullptr ? fallback : truth(*values_[index]);
}

int64_t Bound::integer(size_t index, int64_t fallback) const {
  const Value* value = values_[index];
  if (value == nullptr) return fallback;
  if (!is_integer(*value)) {
    runtime_.fail(fmt::format("'{}' takes a whole number, not '{}'", callee_, type_name(*value)));
  }
  return to_integer(*value);
}

const std::string* Bound::text(size_t index) const {
  const Value* value = values_[index];
  if (value == nullptr || is_none(*value)) return nullptr;
  const auto* text = as<Text>(*value);
  if (text == nullptr) {
    runtime_.fail(fmt::format("'{}' takes a string, not '{}'", callee_, type_name(*value)));
  }
  return text->bytes;
}

}  // namespace fewbits::templates
