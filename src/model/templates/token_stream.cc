#include "model/templates/token_stream.h"

#include <fmt/format.h>

#include <algorithm>

namespace fewbits::templates {
namespace {

constexpr int kMaxNesting = 100;

std::string describe(const Token& token) {
  switch (token.kind) {
    case TokenKind::data:
      return "text";
    case TokenKind::print_begin:
      return "'{{'";
    case TokenKind::print_end:
      return "'}}'";
    case TokenKind::block_begin:
      return "'{%'";
    case TokenKind::block_end:
      return "'%}'";
    case TokenKind::string:
      return "a string";
    case TokenKind::end:
      return "end of the template";
    default:
      return fmt::format("'{}'", token.text);
  }
}

}  // namespace

bool TokenStream::is_any_name(std::initializer_list<std::string_view> names) const {
  return is(TokenKind::name) &&
         std::find(names.begin(), names.end(), current().text) != names.end();
}

bool TokenStream::skip_name(std::string_view name) {
  if (!is_name(name)) return false;
  next();
  return true;
}

bool TokenStream::skip_symbol(std::string_view symbol) {
  if (!is_symbol(symbol)) return false;
  next();
  return true;
}

void TokenStream::expect_symbol(std::string_view symbol) {
  if (!skip_symbol(symbol)) {
    fail(fmt::format("'{}' is expected, not {}", symbol, describe(current())));
  }
}

void TokenStream::expect(TokenKind kind) {
  if (!is(kind)) fail_unexpected();
  next();
}

std::string_view TokenStream::expect_name() {
  if (!is(TokenKind::name)) fail(fmt::format("a name is expected, not {}", describe(current())));
  return *keep(next().text);
}

void TokenStream::fail(std::string_view what) const {
  fail_at(line(), what);
}

void TokenStream::fail_unexpected() const {
  fail(fmt::format("unexpected {}", describe(current())));
}

TokenStream::Level::Level(TokenStream& stream) : stream_(stream) {
  if (stream_.depth_ == kMaxNesting)
    stream_.fail(fmt::format("nested deeper than {}", kMaxNesting));
  ++stream_.depth_;
}

}  // namespace fewbits::templates
