#include "model/templates/lexer.h"

#include <fmt/format.h>

#include <array>

#include "base/error.h"
#include "model/templates/unicode.h"

namespace fewbits::templates {
namespace {

/// Longest first.
constexpr std::array<std::string_view, 25> kSymbols = {
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "*", "/", "%", "~", "[",
    "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ","};

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

bool is_word(char c) {
  return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(source) {}

  std::vector<Token> run() {
    while (at_ < source_.size()) text_until_tag();
    push(TokenKind::end, {});
    return std::move(tokens_);
  }

 private:
  void text_until_tag();
  void data(std::string_view text, std::string_view tag);
  void comment();
  bool raw();
  void tag(TokenKind begin, TokenKind end);
  bool tag_end(TokenKind end);
  void tag_token();
  void number();
  size_t digits(size_t at, std::string_view allowed) const;
  size_t prefixed_integer(size_t at) const;
  void string_literal();
  void symbol();
  void balance(char bracket);
  size_t block_end_size(size_t at, std::string_view end) const;

  char peek(size_t at) const { return at < source_.size() ? source_[at] : '\0'; }
  bool looking_at(size_t at, std::string_view text) const {
    return source_.substr(std::min(at, source_.size()), text.size()) == text;
  }
  size_t skip_space(size_t at) const {
    return source_.size() - strip_left(source_.substr(at)).size();
  }
  void push(TokenKind kind, std::string text) { tokens_.push_back({kind, std::move(text), line_}); }
  /// Moves on, counting lines.
  void advance(size_t to) {
    for (; at_ < to; ++at_) line_ += source_[at_] == '\n';
  }
  [[noreturn]] void fail(std::string_view what) const { fail_at(line_, what); }

  std::string_view source_;
  size_t at_ = 0;
  int line_ = 1;
  std::string open_brackets_;  // closing ones that are awaited, innermost last
  std::vector<Token> tokens_;
};

/// From at_ to behind the next tag.
void Lexer::text_until_tag() {
  size_t begin = at_;
  do {
    begin = source_.find('{', begin);
    if (begin == std::string_view::npos) begin = source_.size();
  } while (begin < source_.size() && !looking_at(begin, "{{") && !looking_at(begin, "{%") &&
           !looking_at(begin, "{#") && ++begin);
  data(source_.substr(at_, begin - at_), source_.substr(begin, 3));
  advance(begin);
  if (at_ == source_.size()) return;
  if (looking_at(at_, "{%")) {
    if (!raw()) tag(TokenKind::block_begin, TokenKind::block_end);
  } else if (looking_at(at_, "{{")) {
    tag(TokenKind::print_begin, TokenKind::print_end);
  } else {
    comment();
  }
}

/// Text before `tag`, the tag's two or three first characters (empty at the end of the source).
void Lexer::data(std::string_view text, std::string_view tag) {
  const bool starts_line = at_ == 0 || source_[at_ - 1] == '\n';
  const char sign = tag.size() < 3 ? '\0' : tag[2];
  if (sign == '-') {
    text = strip_right(text);
  } else if (!tag.empty() && sign != '+' && tag[1] != '{') {
    const size_t line_begin = text.rfind('\n') + 1;  // 0 where there is none
    const bool whole_line = line_begin > 0 || starts_line;
    if (whole_line && is_all_space(text.substr(line_begin))) text = text.substr(0, line_begin);
  }
  if (!text.empty()) push(TokenKind::data, std::string(text));
}

/// Size of a block's or comment's end with what it strips behind it; 0 where there is none at `at`.
size_t Lexer::block_end_size(size_t at, std::string_view end) const {
  const char sign = peek(at);
  const size_t begin = at + (sign == '-' || sign == '+');
  if (!looking_at(begin, end)) return 0;
  const size_t behind = begin + end.size();
  if (sign == '-') return skip_space(behind) - at;
  return behind + (sign != '+' && peek(behind) == '\n') - at;
}

void Lexer::comment() {
  // The sign behind "{#" is a part of the tag: "{#-#}" is a whole comment.
  size_t at = at_ + 2;
  if (peek(at) == '-' || peek(at) == '+') ++at;
  for (; at < source_.size(); ++at) {
    const size_t size = block_end_size(at, "#}");
    if (size != 0) return advance(at + size);
  }
  fail("a comment has no end '#}'");
}

/// {% raw %} up to {% endraw %}; false where the tag at at_ is another.
bool Lexer::raw() {
  const auto matches = [&](size_t at,
                           std::string_view word) -> size_t {  // position behind the word
    at += 2;
    if (peek(at) == '-' || peek(at) == '+') ++at;
    at = skip_space(at);
    return looking_at(at, word) ? skip_space(at + word.size()) : 0;
  };
  const size_t head = matches(at_, "raw");
  const bool strips = peek(head) == '-';
  if (head == 0 || !looking_at(head + strips, "%}")) return false;
  advance(strips ? skip_space(head + 3) : head + 2);
  for (size_t at = source_.find("{%", at_); at < source_.size(); at = source_.find("{%", at + 2)) {
    const size_t tail = matches(at, "endraw");
    const size_t size = tail == 0 ? 0 : block_end_size(tail, "%}");
    if (size == 0) continue;
    data(source_.substr(at_, at - at_), source_.substr(at, 3));
    advance(tail + size);
    return true;
  }
  fail("'raw' has no 'endraw'");
}

void Lexer::tag(TokenKind begin, TokenKind end) {
  push(begin, {});
  const char sign = peek(at_ + 2);
  advance(at_ + 2 + (sign == '-' || sign == '+'));
  open_brackets_.clear();
  while (!tag_end(end)) {
    advance(skip_space(at_));
    if (at_ == source_.size()) fail("a tag has no end");
    if (!tag_end(end)) {
      tag_token();
    } else {
      return;
    }
  }
}

/// Takes the end of the tag where it is here.
bool Lexer::tag_end(TokenKind end) {
  if (!open_brackets_.empty()) return false;
  size_t size = 0;
  if (end == TokenKind::block_end) {
    size = block_end_size(at_, "%}");
  } else if (looking_at(at_, "}}")) {
    size = 2;
  } else if (looking_at(at_, "-}}")) {
    size = skip_space(at_ + 3) - at_;
  }
  if (size == 0) return false;
  push(end, {});
  advance(at_ + size);
  return true;
}

void Lexer::tag_token() {
  const char c = source_[at_];
  if (is_digit(c)) return number();
  if (c == '"' || c == '\'') return string_literal();
  if (!is_word(c)) return symbol();
  size_t end = at_;
  while (is_word(peek(end))) ++end;
  push(TokenKind::name, std::string(source_.substr(at_, end - at_)));
  advance(end);
}

/// Behind the run of `allowed` digits at `at`, single underscores between them.
size_t Lexer::digits(size_t at, std::string_view allowed) const {
  const auto good = [&](size_t i) {
    return i < source_.size() && allowed.find(source_[i]) != std::string_view::npos;
  };
  if (!good(at)) return at;
  while (good(at) || (peek(at) == '_' && good(at + 1))) ++at;
  return at;
}

/// Behind 0x1f, 0o17 or 0b11; `at` where there is none.
size_t Lexer::prefixed_integer(size_t at) const {
  if (peek(at) != '0') return at;
  std::string_view allowed;
  switch (peek(at + 1)) {
    case 'x':
    case 'X':
      allowed = "0123456789abcdefABCDEF";
      break;
    case 'o':
    case 'O':
      allowed = "01234567";
      break;
    case 'b':
    case 'B':
      allowed = "01";
      break;
    default:
      return at;
  }
  const size_t begin = at + 2 + (peek(at + 2) == '_');
  const size_t end = digits(begin, allowed);
  return end == begin ? at : end;
}

void Lexer::number() {
  constexpr std::string_view kDecimal = "0123456789";
  TokenKind kind = TokenKind::integer;
  size_t end = digits(at_, kDecimal);
  const bool after_dot = at_ > 0 && source_[at_ - 1] == '.';  // x.0.1 is two subscripts
  const auto part = [&](size_t begin) {                       // a fraction or an exponent
    const size_t stop = digits(begin, kDecimal);
    if (after_dot || stop == begin) return;
    kind = TokenKind::floating;
    end = stop;
  };
  if (peek(end) == '.') part(end + 1);
  if ((peek(end) | 0x20) == 'e') part(end + 1 + (peek(end + 1) == '-' || peek(end + 1) == '+'));
  if (kind == TokenKind::integer) {
    const size_t prefixed = prefixed_integer(at_);
    if (prefixed != at_) {
      end = prefixed;
    } else if (source_[at_] == '0') {
      end = digits(at_, "0");  // "012" is two tokens, and then an error of the parser
    }
  }
  std::string text(source_.substr(at_, end - at_));
  std::erase(text, '_');
  push(kind, std::move(text));
  advance(end);
}

void Lexer::symbol() {
  for (const std::string_view symbol : kSymbols) {
    if (!looking_at(at_, symbol)) continue;
    if (symbol.size() == 1) balance(symbol[0]);
    push(TokenKind::symbol, std::string(symbol));
    return advance(at_ + symbol.size());
  }
  fail(fmt::format("unexpected character '{}'", character_at(source_, at_)));
}

/// Inside brackets "}}" and "%}" do not end a tag.
void Lexer::balance(char bracket) {
  switch (bracket) {
    case '(':
      open_brackets_ += ')';
      return;
    case '[':
      open_brackets_ += ']';
      return;
    case '{':
      open_brackets_ += '}';
      return;
    case ')':
    case ']':
    case '}':
      break;
    default:
      return;
  }
  if (open_brackets_.empty() || open_brackets_.back() != bracket) {
    fail(fmt::format("unexpected '{}'", bracket));
  }
  open_brackets_.pop_back();
}

/// Appends what the escape sequence at `at` (behind the backslash) stands for and returns the
/// position behind it.
class Unescape {
 public:
  Unescape(std::string_view text, int line) : text_(text), line_(line) {}

  std::string run() {
    while (at_ < text_.size()) {
      const char c = text_[at_++];
      if (c == '\\') {
        escape();
      } else {
        out_ += c;
      }
    }
    return std::move(out_);
  }

 private:
  void escape() {
    constexpr std::string_view kNames = "\\'\"abfnrtv";
    constexpr std::string_view kValues = "\\'\"\a\b\f\n\r\t\v";
    const char c = text_[at_++];  // the lexer took no string that ends in a backslash
    const size_t known = kNames.find(c);
    if (known != std::string_view::npos) {
      out_ += kValues[known];
    } else if (c >= '0' && c <= '7') {
      octal();
    } else if (c == 'x') {
      hexadecimal(2);
    } else if (c == 'u') {
      hexadecimal(4);
    } else if (c == 'U') {
      hexadecimal(8);
    } else if (c == 'N') {
      fail_at(line_, "\\N{...} in a string is not supported: write the character");
    } else if (c != '\n') {  // as Python: an unknown escape stays as it is
      out_ += '\\';
      out_ += c;
    }
  }

  void octal() {
    int32_t point = text_[at_ - 1] - '0';
    for (int i = 0; i < 2 && at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '7'; ++i) {
      point = point * 8 + (text_[at_++] - '0');
    }
    out_ += encode(point);
  }

  void hexadecimal(int size) {
    uint32_t point = 0;
    for (int i = 0; i < size; ++i, ++at_) {
      const size_t digit =
          at_ < text_.size()
              ? std::string_view("0123456789abcdef").find(static_cast<char>(text_[at_] | 0x20))
              : std::string_view::npos;
      if (digit == std::string_view::npos) fail_at(line_, "an escape in a string is cut short");
      point = point * 16 + static_cast<uint32_t>(digit);
    }
    if (point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff)) {
      fail_at(line_, fmt::format("\\u{:04x} in a string is no character", point));
    }
    out_ += encode(static_cast<int32_t>(point));
  }

  std::string_view text_;
  int line_;
  size_t at_ = 0;
  std::string out_;
};

void Lexer::string_literal() {
  const char quote = source_[at_];
  size_t end = at_ + 1;
  while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
  if (end >= source_.size()) fail("a string has no end");
  push(TokenKind::string, Unescape(source_.substr(at_ + 1, end - at_ - 1), line_).run());
  advance(end + 1);
}

}  // namespace

std::string normalize_newlines(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\r' && i + 1 < text.size() && text[i + 1] == '\n') continue;
    out += text[i] == '\r' ? '\n' : text[i];
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

std::vector<Token> tokenize(std::string_view source) {
  return Lexer(source).run();
}

void fail_at(int line, std::string_view what) {
  throw Error(fmt::format("chat template, line {}: {}", line, what));
}

}  // namespace fewbits::templates
