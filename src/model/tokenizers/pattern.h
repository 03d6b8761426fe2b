#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "model/tokenizers/utf8.h"

struct pcre2_real_code_8;
struct pcre2_real_match_data_8;

// What tokenizers search text for: a fixed string or a regular expression.
namespace fewbits {

/// Immutable once built, safe to share between threads.
///
/// Expressions come in the syntax of Oniguruma, which the tokenizer files are written for, and run
/// on PCRE2's JIT; where the two differ in meaning (\s, \w, \d, \h, nested classes, line anchors)
/// they are translated, and where that is not possible (class intersections) they are refused.
class TextPattern {
 public:
  static TextPattern literal(std::string text);
  /// Throws Error, beginning with `where`, for an expression that is wrong or cannot be translated.
  static TextPattern regex(std::string_view expression, std::string_view where);

  bool is_regex() const { return code_ != nullptr; }
  /// The fixed string, or the expression as it came.
  const std::string& source() const { return source_; }

 private:
  friend class PatternFinder;
  struct FreeCode {
    void operator()(pcre2_real_code_8* code) const;
  };
  std::string source_;
  std::unique_ptr<pcre2_real_code_8, FreeCode> code_;
};

/// Finds the matches of one pattern, left to right, without overlap. One per thread; can be
/// restarted on text after text. An empty match right behind the match before it does not count.
class PatternFinder {
 public:
  explicit PatternFinder(const TextPattern& pattern);

  /// `text` must outlive the search, and be valid UTF-8 where the pattern is a regex.
  void start(std::string_view text);
  /// The next match. Throws Error where the expression needs more steps than any sane one would.
  std::optional<ByteRange> next();

 private:
  struct FreeMatch {
    void operator()(pcre2_real_match_data_8* match) const;
  };
  std::optional<ByteRange> search();
  int match_at_cursor() const;

  const TextPattern& pattern_;
  std::unique_ptr<pcre2_real_match_data_8, FreeMatch> match_;
  std::string_view text_;
  int64_t cursor_ = 0;
  int64_t last_end_ = -1;
};

/// `text` with every match replaced.
std::string replace_matches(std::string_view text, const TextPattern& pattern, std::string_view by);

}  // namespace fewbits
