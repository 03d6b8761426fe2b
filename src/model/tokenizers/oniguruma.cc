#include "model/tokenizers/oniguruma.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/error.h"
#include "model/tokenizers/newer_unicode.h"

namespace fewbits {
namespace {

// The scripts that tokenizers' expressions name.
constexpr std::array<std::string_view, 11> kScripts = {
    "Arabic", "Cyrillic", "Devanagari", "Greek", "Han",  "Hangul",
    "Hebrew", "Hiragana", "Katakana",   "Latin", "Thai",
};

constexpr size_t kMaxLength = 65536;  // far above any real one; bounds what PCRE2 compiles

/// Walks the expression once. The only state is whether, and how deep, it is inside [ ].
class Translator {
 public:
  Translator(std::string_view expression, std::string_view where)
      : in_(expression), where_(where) {}

  std::string run() {
    if (in_.size() > kMaxLength) refuse("more than 65536 bytes");
    while (at_ < in_.size()) {
      if (in_[at_] == '\\') {
        escape();
      } else if (depth_ > 0) {
        class_character();
      } else {
        plain_character();
      }
    }
    return std::move(out_);
  }

 private:
  [[noreturn]] void refuse(std::string_view what) const {
    throw Error(fmt::format("{}: regular expression '{}' is not supported: {}", where_,
                            in_.substr(0, 200), what));
  }

  bool next_is(std::string_view text) const { return in_.substr(at_, text.size()) == text; }

  void copy(size_t count) {
    out_ += in_.substr(at_, count);
    at_ += count;
  }

  void replace(size_t count, std::string_view by) {
    out_ += by;
    at_ += count;
  }

  void escape() {
    if (at_ + 1 >= in_.size()) refuse("it ends in a backslash");
    const bool in_class = depth_ > 0;
    switch (in_[at_ + 1]) {
      case 's':
        return replace(2, "\\p{White_Space}");
      case 'S':
        return replace(2, "\\P{White_Space}");
      case 'd':
        return category("Nd", 2, false);
      case 'D':
        return category("Nd", 2, true);
      case 'h':
        return replace(2, in_class ? "0-9A-Fa-f" : "[0-9A-Fa-f]");
      case 'w':
        return replace(2, in_class ? word_class() : fmt::format("[{}]", word_class()));
      case 'W':
        if (in_class) refuse("\\W inside a class");
        return replace(2, fmt::format("[^{}]", word_class()));
      case 'H':
        refuse("\\H");
      case 'p':
      case 'P':
        return property();
      default:
        return copy(2);
    }
  }

  void property() {
    const size_t close = in_.find('}', at_);
    if (at_ + 2 >= in_.size() || in_[at_ + 2] != '{' || close == std::string_view::npos) {
      return copy(2);
    }
    const bool caret = in_[at_ + 3] == '^';
    const size_t begin = at_ + 3 + (caret ? 1 : 0);
    const std::string_view name = in_.substr(begin, close - begin);
    const bool negated = caret != (in_[at_ + 1] == 'P');
    if (std::ranges::find(kScripts, name) != kScripts.end()) {
      return replace(close + 1 - at_, fmt::format("\\{}{{sc:{}}}", negated ? 'P' : 'p', name));
    }
    category(name, close + 1 - at_, negated);
  }

  /// A property that may lack newer characters. Of a negated one in a class they cannot be taken
  /// out; it stays as it is.
  void category(std::string_view name, size_t count, bool negated) {
    const std::string newer = newer_characters(name);
    if (newer.empty() || (negated && depth_ > 0)) {
      return replace(count, fmt::format("\\{}{{{}}}", negated ? 'P' : 'p', name));
    }
    const std::string members = fmt::format("\\p{{{}}}{}", name, newer);
    if (depth_ > 0) return replace(count, members);
    replace(count, fmt::format("[{}{}]", negated ? "^" : "", members));
  }

  static std::string word_class() {
    return "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}" + newer_characters("L") + newer_characters("M") +
           newer_characters("Nd");
  }

  void plain_character() {
    if (next_is("(*")) refuse("(*...)");
    if (next_is("}+")) refuse("{n,m}+");
    if (in_[at_] == '[') return open_class();
    copy(1);
  }

  void open_class() {
    ++depth_;
    copy(next_is("[^") ? 2 : 1);
    if (next_is("]")) refuse("an empty class");
  }

  void class_character() {
    if (next_is("&&")) refuse("&& inside a class");
    if (next_is("[^")) refuse("a negated class inside a class");
    if (next_is("[:")) return copy(std::min(in_.find(":]", at_), in_.size() - 2) + 2 - at_);
    if (in_[at_] == '[') {
      ++depth_;
      ++at_;
    } else if (in_[at_] == ']') {
      replace(1, --depth_ == 0 ? "]" : "");
    } else {
      copy(1);
    }
  }

  std::string_view in_;
  std::string_view where_;
  size_t at_ = 0;
  int depth_ = 0;
  std::string out_;
};

}  // namespace

std::string pcre2_from_oniguruma(std::string_view expression, std::string_view where) {
  return Translator(expression, where).run();
}

}  // namespace fewbits
