#include "model/tokenizers/pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <fmt/format.h>
#include <pcre2.h>

#include "base/error.h"
#include "model/tokenizers/oniguruma.h"

namespace fewbits {
namespace {

// A tokenizer's expression takes some steps per character. Only a hostile one needs more than
// these in one match, and then it is refused rather than waited for.
constexpr uint32_t kMaxSteps = 20'000'000;
constexpr uint32_t kMaxHeapKilobytes = 256 * 1024;

struct FreeContext {
  void operator()(pcre2_compile_context* context) const { pcre2_compile_context_free(context); }
  void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
};

pcre2_code* compile(const std::string& expression, std::string_view where) {
  const std::unique_ptr<pcre2_compile_context, FreeContext> context(
      pcre2_compile_context_create(nullptr));
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int error;
  PCRE2_SIZE offset;
  // Oniguruma's ^ and $ always match at lines.
  const uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(expression.data()),
                                   expression.size(), options, &error, &offset, context.get());
  if (code == nullptr) {
    PCRE2_UCHAR message[128];
    pcre2_get_error_message(error, message, sizeof message);
    throw Error(fmt::format("{}: regular expression '{}': {}", where, expression,
                            reinterpret_cast<const char*>(message)));
  }
  pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);  // without JIT the interpreter does it
  return code;
}

/// The interpreter keeps its state on the heap, so it takes what overflows JIT's stack.
int match_by_interpreter(const pcre2_code* code, std::string_view text, size_t from,
                         pcre2_match_data* match) {
  const std::unique_ptr<pcre2_match_context, FreeContext> limits(
      pcre2_match_context_create(nullptr));
  pcre2_set_match_limit(limits.get(), kMaxSteps);
  pcre2_set_heap_limit(limits.get(), kMaxHeapKilobytes);
  return pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from,
                     PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, match, limits.get());
}

}  // namespace

void TextPattern::FreeCode::operator()(pcre2_real_code_8* code) const {
  pcre2_code_free(code);
}

TextPattern TextPattern::literal(std::string text) {
  TextPattern pattern;
  pattern.source_ = std::move(text);
  return pattern;
}

TextPattern TextPattern::regex(std::string_view expression, std::string_view where) {
  TextPattern pattern;
  pattern.source_ = expression;
  pattern.code_.reset(compile(pcre2_from_oniguruma(expression, where), where));
  return pattern;
}

void PatternFinder::FreeMatch::operator()(pcre2_real_match_data_8* match) const {
  pcre2_match_data_free(match);
}

PatternFinder::PatternFinder(const TextPattern& pattern) : pattern_(pattern) {
  if (pattern.is_regex()) match_.reset(pcre2_match_data_create(1, nullptr));
}

void PatternFinder::start(std::string_view text) {
  text_ = text;
  cursor_ = 0;
  last_end_ = -1;
}

std::optional<ByteRange> PatternFinder::next() {
  const auto size = static_cast<int64_t>(text_.size());
  while (cursor_ <= size) {
    const auto found = search();
    if (!found) break;
    if (found->size() > 0 || found->begin != last_end_) {
      cursor_ = last_end_ = found->end;
      return found;
    }
    cursor_ += cursor_ < size ? decode_utf8(text_, cursor_).bytes : 1;
  }
  cursor_ = size + 1;
  return std::nullopt;
}

std::optional<ByteRange> PatternFinder::search() {
  if (!pattern_.is_regex()) {
    const size_t at = text_.find(pattern_.source_, static_cast<size_t>(cursor_));
    if (at == std::string_view::npos || pattern_.source_.empty()) return std::nullopt;
    const auto begin = static_cast<int64_t>(at);
    return ByteRange{begin, begin + static_cast<int64_t>(pattern_.source_.size())};
  }
  const int result = match_at_cursor();
  if (result == PCRE2_ERROR_NOMATCH) return std::nullopt;
  if (result < 0) {
    throw Error(
        fmt::format("tokenizer: the regular expression '{}' takes too many steps on this "
                    "text (PCRE2 error {})",
                    pattern_.source_, result));
  }
  const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(match_.get());
  // \K inside a lookahead can put a match's begin behind its end.
  const auto begin = static_cast<int64_t>(std::min(ends[0], ends[1]));
  return ByteRange{std::max(begin, cursor_), std::max(static_cast<int64_t>(ends[1]), cursor_)};
}

int PatternFinder::match_at_cursor() const {
  const auto from = static_cast<size_t>(cursor_);
  const int result = pcre2_match(pattern_.code_.get(), reinterpret_cast<PCRE2_SPTR>(text_.data()),
                                 text_.size(), from, PCRE2_NO_UTF_CHECK, match_.get(), nullptr);
  if (result != PCRE2_ERROR_JIT_STACKLIMIT) return result;
  return match_by_interpreter(pattern_.code_.get(), text_, from, match_.get());
}

std::string replace_matches(std::string_view text, const TextPattern& pattern,
                            std::string_view by) {
  std::string result;
  PatternFinder finder(pattern);
  finder.start(text);
  int64_t done = 0;
  while (const auto match = finder.next()) {
    result += slice(text, {done, match->begin});
    result += by;
    done = match->end;
  }
  return result += text.substr(static_cast<size_t>(done));
}

}  // namespace fewbits
