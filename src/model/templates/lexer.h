#pragma once

#include <string>
#include <string_view>
#include <vector>

// Cuts a template into tokens. White space around tags is removed here, by the rules that models'
// templates are written for: a block tag that stands alone on its line leaves nothing (trim_blocks,
// lstrip_blocks), `-` strips on its side and `+` keeps.
namespace fewbits::templates {

enum class TokenKind {
  data,
  print_begin,  ///< {{
  print_end,
  block_begin,  ///< {%
  block_end,
  name,
  string,
  integer,
  floating,
  symbol,
  end,
};

struct Token {
  TokenKind kind;
  std::string text;  ///< of a string: its value, escapes resolved
  int line;
};

/// "\r\n" and "\r" become "\n", and one newline at the end goes.
std::string normalize_newlines(std::string_view text);

/// Throws Error with the line. The last token is `end`. REQUIRES: `source` is normalized.
std::vector<Token> tokenize(std::string_view source);

/// Throws Error that begins as all errors of a template do.
[[noreturn]] void fail_at(int line, std::string_view what);

}  // namespace fewbits::templates
