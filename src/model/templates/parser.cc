#include "model/templates/parser.h"

#include <fmt/format.h>

#include "model/templates/expression_parser.h"

namespace fewbits::templates {
namespace {

using Names = std::initializer_list<std::string_view>;

/// Statements: the text between tags and what follows a "{%".
class StatementParser {
 public:
  explicit StatementParser(TokenStream& tokens) : tokens_(tokens), expressions_(tokens) {}

  /// Up to the end of the template.
  Block all() {
    Block block = statements({});
    if (!tokens_.is(TokenKind::end)) tokens_.fail_unexpected();
    return block;
  }

 private:
  Block statements(Names ends);
  Block body(Names ends);
  Block body_until(std::string_view end);
  Statement print();
  Statement statement();
  Statement statement_of(std::string_view tag, int line);
  Statement set(int line);
  Statement if_(int line);
  Statement for_(int line);
  Statement macro(int line);
  Statement with(int line);
  Statement filter(int line);
  Statement generation(int line);
  Statement jump(std::string_view tag, int line);
  Target targets(bool with_attributes);
  Target target(bool with_attribute);
  std::string_view variable();

  TokenStream& tokens_;
  ExpressionParser expressions_;
  int loops_ = 0;  ///< around this place, in the same macro
  int all_loops_ = 0;
};

/// Up to one of the tags `ends`, whose name is then the current token, or to the end of the
/// template.
Block StatementParser::statements(Names ends) {
  const TokenStream::Level level(tokens_);
  Block block;
  while (!tokens_.is(TokenKind::end)) {
    const int line = tokens_.line();
    if (tokens_.is(TokenKind::data)) {
      block.push_back({line, Data{tokens_.next().text}});
    } else if (tokens_.is(TokenKind::print_begin)) {
      block.push_back(print());
    } else {
      tokens_.expect(TokenKind::block_begin);
      if (tokens_.is_any_name(ends)) return block;
      block.push_back(statement());
    }
  }
  return block;
}

/// What stands between the end of the opening tag and one of `ends`.
Block StatementParser::body(Names ends) {
  tokens_.skip_symbol(":");  // as in Python, allowed and without meaning
  tokens_.expect(TokenKind::block_end);
  Block block = statements(ends);
  if (tokens_.is(TokenKind::end)) tokens_.fail(fmt::format("'{}' is missing", *(ends.end() - 1)));
  return block;
}

Block StatementParser::body_until(std::string_view end) {
  const Scoped<bool> strict(tokens_.lenient, false);
  Block block = body({end});
  tokens_.next();
  return block;
}

Statement StatementParser::print() {
  const int line = tokens_.next().line;
  const Expr value = expressions_.tuple();
  tokens_.expect(TokenKind::print_end);
  return {line, Print{value}};
}

Statement StatementParser::statement() {
  const int line = tokens_.line();
  const std::string_view tag = tokens_.expect_name();
  Statement result = statement_of(tag, line);
  tokens_.expect(TokenKind::block_end);
  return result;
}

Statement StatementParser::statement_of(std::string_view tag, int line) {
  if (tag == "set") return set(line);
  if (tag == "if") return if_(line);
  if (tag == "for") return for_(line);
  if (tag == "macro") return macro(line);
  if (tag == "with") return with(line);
  if (tag == "filter") return filter(line);
  if (tag == "generation") return generation(line);
  if (tag == "break" || tag == "continue") return jump(tag, line);
  if (tag == "print") return {line, Print{expressions_.tuple()}};
  fail_at(line, fmt::format("the tag '{}' is not supported here", tag));
}

Statement StatementParser::set(int line) {
  Target target = targets(true);
  if (tokens_.skip_symbol("=")) return {line, Set{std::move(target), expressions_.tuple()}};
  const Scoped<bool> strict(tokens_.lenient, false);
  const Expr filter = tokens_.is_symbol("|") ? expressions_.filters(nullptr) : nullptr;
  return {line, SetBlock{std::move(target), filter, body_until("endset")}};
}

Statement StatementParser::if_(int line) {
  const Scoped<bool> lenient(tokens_.lenient, true);
  If result;
  do {
    const Expr condition = expressions_.tuple(false);
    result.branches.emplace_back(condition, body({"elif", "else", "endif"}));
  } while (tokens_.skip_name("elif"));
  if (tokens_.next().text == "else") {
    result.branches.emplace_back(nullptr, body({"endif"}));
    tokens_.next();
  }
  return {line, std::move(result)};
}

Statement StatementParser::for_(int line) {
  For loop;
  const Scoped<int> inside(all_loops_, all_loops_ + 1);
  loop.target = targets(false);
  if (!tokens_.skip_name("in")) tokens_.fail("'in' is expected");
  loop.items = expressions_.tuple(false);
  if (tokens_.skip_name("if")) loop.filter = expressions_.expression();
  if (tokens_.is_name("recursive")) tokens_.fail("'recursive' loops are not supported");
  const Scoped<bool> strict(tokens_.lenient, false);
  {
    const Scoped<int> inner(loops_, loops_ + 1);
    loop.body = body({"else", "endfor"});
  }
  if (tokens_.next().text == "else") loop.otherwise = body_until("endfor");
  return {line, std::move(loop)};
}

Statement StatementParser::macro(int line) {
  DefineMacro result;
  MacroDefinition& macro = result.macro;
  macro.name = variable();
  const Scoped<MacroDefinition*> current(tokens_.macro, &macro);
  const Scoped<int> no_loop(loops_, 0);
  tokens_.expect_symbol("(");
  while (!tokens_.skip_symbol(")")) {
    if (!macro.parameters.empty()) tokens_.expect_symbol(",");
    const std::string_view name = tokens_.expect_name();
    const Expr fallback = tokens_.skip_symbol("=") ? expressions_.expression() : nullptr;
    const bool earlier_has = !macro.parameters.empty() && macro.parameters.back().second != nullptr;
    if (fallback == nullptr && earlier_has) {
      tokens_.fail(fmt::format("parameter '{}' needs a default, as the one before it has", name));
    }
    macro.parameters.emplace_back(name, fallback);
  }
  macro.body = body_until("endmacro");
  return {line, std::move(result)};
}

Statement StatementParser::with(int line) {
  With result;
  while (!tokens_.is(TokenKind::block_end) && !tokens_.is_symbol(":")) {
    if (!result.values.empty()) tokens_.expect_symbol(",");
    Target target = targets(false);
    tokens_.expect_symbol("=");
    result.values.emplace_back(std::move(target), expressions_.expression());
  }
  result.body = body_until("endwith");
  return {line, std::move(result)};
}

Statement StatementParser::filter(int line) {
  const Scoped<bool> strict(tokens_.lenient, false);
  const Expr filter = expressions_.filters(nullptr, true);
  return {line, FilterBlock{filter, body_until("endfilter")}};
}

Statement StatementParser::generation(int line) {
  const Scoped<int> no_loop(loops_, 0);
  return {line, Generation{body_until("endgeneration")}};
}

Statement StatementParser::jump(std::string_view tag, int line) {
  if (loops_ == 0) fail_at(line, fmt::format("'{}' outside a loop", tag));
  if (tag == "break") return {line, Break{}};
  return {line, Continue{}};
}

/// One target or several with commas.
Target StatementParser::targets(bool with_attributes) {
  const TokenStream::Level level(tokens_);
  Target result;
  const auto at_end = [&] { return tokens_.is_symbol(")") || tokens_.is(TokenKind::block_end); };
  while (!at_end()) {
    if (tokens_.skip_symbol("(")) {
      result.parts.push_back(targets(with_attributes));
      tokens_.expect_symbol(")");
    } else {
      result.parts.push_back(target(with_attributes));
    }
    if (!tokens_.skip_symbol(",")) break;
    result.is_tuple = true;
  }
  if (result.parts.empty()) tokens_.fail_unexpected();
  if (result.is_tuple) return result;
  Target only = std::move(result.parts[0]);
  return only;
}

Target StatementParser::target(bool with_attribute) {
  Target result;
  if (with_attribute && tokens_.ahead().kind == TokenKind::symbol && tokens_.ahead().text == ".") {
    result.name = tokens_.expect_name();
    tokens_.next();
    result.attribute = tokens_.expect_name();
  } else {
    result.name = variable();
  }
  return result;
}

/// A name that may be assigned to.
std::string_view StatementParser::variable() {
  if (tokens_.is_any_name({"true", "false", "none", "True", "False", "None"})) {
    tokens_.fail(fmt::format("'{}' cannot be assigned to", tokens_.current().text));
  }
  if (all_loops_ > 0 && tokens_.is_name("loop")) {
    tokens_.fail("'loop' cannot be assigned to in a loop");
  }
  return tokens_.expect_name();
}

}  // namespace

Ast parse(std::string_view source) {
  Ast ast;
  TokenStream tokens(tokenize(normalize_newlines(source)), ast);
  ast.body = StatementParser(tokens).all();
  if (!tokens.unknown.empty()) fail_at(tokens.unknown[0].line, tokens.unknown[0].what);
  return ast;
}

}  // namespace fewbits::templates
