#include "model/templates/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstring>

namespace fewbits::templates {
namespace {

/// Of the character at `position`; code point -1 and size 1 where there is no UTF-8.
std::pair<int32_t, size_t> decode(std::string_view text, size_t position) {
  const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(text.data()) + position;
  if (*bytes < 0x80) return {*bytes, 1};
  utf8proc_int32_t point = -1;
  const auto left = static_cast<utf8proc_ssize_t>(text.size() - position);
  const utf8proc_ssize_t size = utf8proc_iterate(bytes, left, &point);
  if (size <= 0) return {-1, 1};
  return {point, static_cast<size_t>(size)};
}

bool has_case(int32_t point) {
  const auto category = utf8proc_category(point);
  return category == UTF8PROC_CATEGORY_LU || category == UTF8PROC_CATEGORY_LL ||
         category == UTF8PROC_CATEGORY_LT;
}

enum class Case { lower, upper, title };

void append_cased(std::string& out, std::string_view character, Case wanted) {
  constexpr int32_t kSharpS = 0xdf;
  const int32_t point = code_point(character);
  if (point == kSharpS && wanted != Case::lower) {
    out += wanted == Case::upper ? "SS" : "Ss";
    return;
  }
  if (point < 0) {
    out += character;
    return;
  }
  out += encode(wanted == Case::lower   ? utf8proc_tolower(point)
                : wanted == Case::upper ? utf8proc_toupper(point)
                                        : utf8proc_totitle(point));
}

std::string with_case(std::string_view text, Case wanted) {
  std::string out;
  for_each_character(text,
                     [&](std::string_view character) { append_cased(out, character, wanted); });
  return out;
}

bool all_cased_are(std::string_view text, Case wanted) {
  const auto good = wanted == Case::lower ? UTF8PROC_CATEGORY_LL : UTF8PROC_CATEGORY_LU;
  bool found = false, other = false;
  for_each_character(text, [&](std::string_view character) {
    const int32_t point = code_point(character);
    if (point < 0 || !has_case(point)) return;
    (utf8proc_category(point) == good ? found : other) = true;
  });
  return found && !other;
}

bool in_set(std::string_view character, const std::string* set) {
  if (set == nullptr) return is_space(code_point(character));
  for (size_t at = 0; at < set->size();) {
    const std::string_view member = character_at(*set, at);
    if (member == character) return true;
    at += member.size();
  }
  return false;
}

/// The bytes of the last character.
std::string_view last_character(std::string_view text) {
  size_t begin = text.size() - 1;
  while (begin > 0 && text.size() - begin < 4 && (text[begin] & 0xc0) == 0x80) --begin;
  const std::string_view character = character_at(text, begin);
  return begin + character.size() == text.size() ? character : text.substr(text.size() - 1);
}

bool is_line_end(int32_t point) {
  return (point >= 0x0a && point <= 0x0d) || (point >= 0x1c && point <= 0x1e) || point == 0x85 ||
         point == 0x2028 || point == 0x2029;
}

}  // namespace

std::string_view character_at(std::string_view text, size_t position) {
  return text.substr(position, decode(text, position).second);
}

int32_t code_point(std::string_view character) {
  return decode(character, 0).first;
}

std::string encode(int32_t code_point) {
  utf8proc_uint8_t bytes[4];
  const auto size = utf8proc_encode_char(code_point, bytes);
  return std::string(reinterpret_cast<const char*>(bytes), static_cast<size_t>(size));
}

int64_t count_characters(std::string_view text) {
  int64_t count = 0;
  for (size_t at = 0; at < text.size(); ++count) at += decode(text, at).second;
  return count;
}

size_t position_of(std::string_view text, int64_t index) {
  size_t at = 0;
  for (; index > 0 && at < text.size(); --index) at += decode(text, at).second;
  return at;
}

std::vector<std::string_view> characters(std::string_view text) {
  std::vector<std::string_view> result;
  for (size_t at = 0; at < text.size(); at += result.back().size()) {
    result.push_back(character_at(text, at));
  }
  return result;
}

bool is_space(int32_t point) {
  return (point >= 0x09 && point <= 0x0d) || (point >= 0x1c && point <= 0x20) || point == 0x85 ||
         point == 0xa0 || point == 0x1680 || (point >= 0x2000 && point <= 0x200a) ||
         point == 0x2028 || point == 0x2029 || point == 0x202f || point == 0x205f ||
         point == 0x3000;
}

bool is_printable(int32_t point) {
  if (point == ' ') return true;
  if (point < 0) return false;
  switch (utf8proc_category(point)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return false;
    default:
      return true;
  }
}

bool is_all_space(std::string_view text) {
  return strip_left(text).empty();
}

std::string_view strip_left(std::string_view text, const std::string* set) {
  while (!text.empty()) {
    const std::string_view first = character_at(text, 0);
    if (!in_set(first, set)) break;
    text.remove_prefix(first.size());
  }
  return text;
}

std::string_view strip_right(std::string_view text, const std::string* set) {
  while (!text.empty()) {
    const std::string_view last = last_character(text);
    if (!in_set(last, set)) break;
    text.remove_suffix(last.size());
  }
  return text;
}

size_t find_text(std::string_view text, std::string_view part, size_t from) {
  if (part.empty()) return from;  // memmem wants a pointer that is not null
  const void* found = memmem(text.data() + from, text.size() - from, part.data(), part.size());
  if (found == nullptr) return std::string_view::npos;
  return static_cast<size_t>(static_cast<const char*>(found) - text.data());
}

std::string upper(std::string_view text) {
  return with_case(text, Case::upper);
}

std::string lower(std::string_view text) {
  return with_case(text, Case::lower);
}

std::string capitalize(std::string_view text) {
  if (text.empty()) return {};
  std::string out;
  const std::string_view first = character_at(text, 0);
  append_cased(out, first, Case::title);
  return out + lower(text.substr(first.size()));
}

std::string title(std::string_view text) {
  std::string out;
  bool inside = false;
  for_each_character(text, [&](std::string_view character) {
    append_cased(out, character, inside ? Case::lower : Case::title);
    const int32_t point = code_point(character);
    inside = point >= 0 && has_case(point);
  });
  return out;
}

std::string title_words(std::string_view text) {
  constexpr std::string_view kBefore = "-({[<";
  std::string out;
  bool inside = false;
  for_each_character(text, [&](std::string_view character) {
    append_cased(out, character, inside ? Case::lower : Case::upper);
    inside = !is_space(code_point(character)) && kBefore.find(character) == kBefore.npos;
  });
  return out;
}

bool is_lower(std::string_view text) {
  return all_cased_are(text, Case::lower);
}

bool is_upper(std::string_view text) {
  return all_cased_are(text, Case::upper);
}

std::vector<std::string_view> split_lines(std::string_view text) {
  std::vector<std::string_view> lines;
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    const auto [point, size] = decode(text, at);
    const size_t end = at;
    at += size;
    if (!is_line_end(point)) continue;
    if (point == '\r' && at < text.size() && text[at] == '\n') ++at;
    lines.push_back(text.substr(begin, end - begin));
    begin = at;
  }
  if (begin < text.size()) lines.push_back(text.substr(begin));
  return lines;
}

std::string escape_html(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&#34;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

}  // namespace fewbits::templates
