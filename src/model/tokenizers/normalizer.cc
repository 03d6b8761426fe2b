#include "model/tokenizers/normalizer.h"

#include <utf8proc.h>

#include <cstdlib>
#include <memory>

#include "base/error.h"
#include "model/tokenizers/base64.h"
#include "model/tokenizers/json_parts.h"
#include "model/tokenizers/unicode_tables.h"

namespace fewbits {
namespace {

constexpr std::string_view kSpaceMark = "\u2581";

BertText bert_from_json(const Json& json, std::string_view where) {
  BertText step;
  step.clean = json_bool_or(json, "clean_text", true, where);
  step.space_chinese = json_bool_or(json, "handle_chinese_chars", true, where);
  step.lowercase = json_bool_or(json, "lowercase", true, where);
  step.strip_accents = json_bool_or(json, "strip_accents", step.lowercase, where);
  return step;
}

MapCharacters map_from_json(const Json& json, std::string_view where) {
  const std::string map = json_string_or(json, "precompiled_charsmap", "", where);
  return {Charsmap::from_bytes(decode_base64(map, where), where), Charsmap::Way::kGraphemes};
}

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
  if (type == "BertNormalizer") return bert_from_json(json, where);
  if (type == "Precompiled") return map_from_json(json, where);
  if (type == "Strip") {
    return StripSpace{json_bool_or(json, "strip_left", true, where),
                      json_bool_or(json, "strip_right", true, where)};
  }
  unknown_part("normalizer", type,
               {"BertNormalizer", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "Precompiled",
                "Prepend", "Replace", "Sequence", "Strip", "StripAccents"},
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

/// Appends the normal form of `text`.
void append_form(const UnicodeForm& form, std::string_view text, std::string& out) {
  // Normal forms exist for valid text only; the pipeline sees to it where one is used.
  int options = UTF8PROC_STABLE | (form.compose ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE);
  if (form.compatible) options |= UTF8PROC_COMPAT;
  utf8proc_uint8_t* result = nullptr;
  const auto size = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                 static_cast<utf8proc_ssize_t>(text.size()), &result,
                                 static_cast<utf8proc_option_t>(options));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(result, &std::free);
  if (size < 0) throw Error(std::string("tokenizer: normal form: ") + utf8proc_errmsg(size));
  out.append(reinterpret_cast<const char*>(result), static_cast<size_t>(size));
}

bool is_ascii(char byte) {
  return static_cast<uint8_t>(byte) < 0x80;
}

/// Whether the form has to leave the character at byte `at` as it is.
bool is_fixed(const UnicodeForm& form, std::string_view text, size_t at) {
  return is_decomposed_later(decode_utf8(text, static_cast<int64_t>(at)).code, form.compatible);
}

/// ASCII stands in every normal form as it is, but for the last character before a mark, which may
/// compose with it. Only the stretches between are worth the library's two passes.
std::string apply_step(const UnicodeForm& step, std::string text) {
  const auto bytes_at = [&](size_t at) {
    return static_cast<size_t>(decode_utf8(text, static_cast<int64_t>(at)).bytes);
  };
  std::string result;
  result.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    size_t other = at;
    while (other < text.size() && is_ascii(text[other])) ++other;
    const bool fixed = other < text.size() && is_fixed(step, text, other);
    if (other == text.size() || fixed) {
      const size_t end = fixed ? other + bytes_at(other) : other;
      result.append(text, at, end - at);
      at = end;
      continue;
    }
    const size_t begin = other > at ? other - 1 : other;
    result.append(text, at, begin - at);
    at = other;
    while (at < text.size() && !is_ascii(text[at]) && !is_fixed(step, text, at)) at += bytes_at(at);
    append_form(step, std::string_view(text).substr(begin, at - begin), result);
  }
  return result;
}

std::string apply_step(LowercaseText, std::string text) {
  std::string result;
  for_each_character(text, [&](int32_t code, std::string_view bytes) {
    if (code < 0) {
      result += bytes;
    } else {
      append_lowercase(result, code);
    }
  });
  return result;
}

std::string apply_step(StripAccents, std::string text) {
  std::string result;
  for_each_character(text, [&](int32_t code, std::string_view bytes) {
    if (!is_mark(code)) result += bytes;
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

std::string apply_step(CollapseSpaces, std::string text) {
  std::string result;
  for (const char byte : text) {
    if (byte != ' ' || (!result.empty() && result.back() != ' ')) result += byte;
  }
  // SentencePiece looks at the end only once spaces are marks, and takes marks of the text along.
  for (;;) {
    if (result.ends_with(' ')) {
      result.pop_back();
    } else if (result.ends_with(kSpaceMark)) {
      result.resize(result.size() - kSpaceMark.size());
    } else {
      return result;
    }
  }
}

std::string apply_step(const MapCharacters& step, std::string text) {
  return step.map.apply(text, step.way);
}

std::string apply_step(const BertText& step, std::string text) {
  return apply_bert(step, text);
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
