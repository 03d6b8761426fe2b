#include "model/tokenizers/normalizer.h"

#include <utf8proc.h>

#include <cstdlib>
#include <memory>

#include "base/error.h"
#include "model/tokenizers/json_parts.h"

namespace fewbits {
namespace {

constexpr int32_t kDottedCapitalI = 0x130;

NormalizerStep step_from_json(const Json& json, std::string_view where) {
  const std::string type = json_string(json, "type", where);
  if (type == "Prepend") return PrependText{json_string(json, "prepend", where)};
  if (type == "Replace") {
    return ReplaceText{pattern_from_json(json, "pattern", where),
                       json_string(json, "content", where)};
  }
  if (type == "NFC") return UnicodeForm{.compose = true, .compatible = false};
  if (type == "NFD") return UnicodeForm{.compose = false, .compatible = false};
  if (type == "NFKC") return UnicodeForm{.compose = true, .compatible = true};
  if (type == "NFKD") return UnicodeForm{.compose = false, .compatible = true};
  if (type == "Lowercase") return LowercaseText{};
  if (type == "StripAccents") return StripAccents{};
  if (type == "Strip") {
    return StripSpace{json_bool_or(json, "strip_left", true, where),
                      json_bool_or(json, "strip_right", true, where)};
  }
  unknown_part("normalizer", type,
               {"Lowercase", "NFC", "NFD", "NFKC", "NFKD", "Prepend", "Replace", "Sequence",
                "Strip", "StripAccents"},
               where);
}

/// Calls visit(code, bytes) for each character.
template <class Visit>
void for_each_character(std::string_view text, Visit&& visit) {
  for (int64_t at = 0; at < static_cast<int64_t>(text.size());) {
    const Utf8Char character = decode_utf8(text, at);
    visit(character.code, slice(text, {at, at + character.bytes}));
    at += character.bytes;
  }
}

std::string apply_step(const PrependText& step, std::string text) {
  return text.empty() ? text : step.text + text;
}

std::string apply_step(const ReplaceText& step, std::string text) {
  return replace_matches(text, step.pattern, step.by);
}

std::string apply_step(const UnicodeForm& step, std::string text) {
  // Normal forms exist for valid text only; the pipeline sees to it where one is used.
  int options = UTF8PROC_STABLE | (step.compose ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE);
  if (step.compatible) options |= UTF8PROC_COMPAT;
  utf8proc_uint8_t* form = nullptr;
  const auto size = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                 static_cast<utf8proc_ssize_t>(text.size()), &form,
                                 static_cast<utf8proc_option_t>(options));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(form, &std::free);
  if (size < 0) throw Error(std::string("tokenizer: normal form: ") + utf8proc_errmsg(size));
  return {reinterpret_cast<const char*>(form), static_cast<size_t>(size)};
}

std::string apply_step(LowercaseText, std::string text) {
  std::string result;
  for_each_character(text, [&](int32_t code, std::string_view bytes) {
    if (code < 0) {
      result += bytes;
    } else if (code == kDottedCapitalI) {
      result += "i\xCC\x87";  // the one letter whose lower case is two: i, combining dot
    } else {
      append_utf8(result, utf8proc_tolower(code));
    }
  });
  return result;
}

std::string apply_step(StripAccents, std::string text) {
  std::string result;
  for_each_character(text, [&](int32_t code, std::string_view bytes) {
    if (code < 0 || utf8proc_category(code) != UTF8PROC_CATEGORY_MN) result += bytes;
  });
  return result;
}

std::string apply_step(const StripSpace& step, std::string text) {
  int64_t first = static_cast<int64_t>(text.size());
  int64_t last = 0;
  int64_t at = 0;
  for_each_character(text, [&](int32_t code, std::string_view bytes) {
    const int64_t end = at + static_cast<int64_t>(bytes.size());
    if (!is_space(code)) {
      first = std::min(first, at);
      last = end;
    }
    at = end;
  });
  const int64_t begin = step.left ? first : 0;
  const int64_t end = step.right ? last : at;
  return begin < end ? std::string(slice(text, {begin, end})) : std::string();
}

}  // namespace

Normalizer Normalizer::from_json(const Json& json, std::string_view where) {
  std::vector<NormalizerStep> steps;
  for (const Json* step : flatten_sequence(json, "normalizers", where)) {
    steps.push_back(step_from_json(*step, where));
  }
  return Normalizer(std::move(steps));
}

std::string Normalizer::apply(std::string text) const {
  for (const NormalizerStep& step : steps_) {
    text = std::visit([&](const auto& kind) { return apply_step(kind, std::move(text)); }, step);
  }
  return text;
}

}  // namespace fewbits
