#include "model/templates/expression_parser.h"

#include <fmt/format.h>

#include <charconv>
#include <cstdlib>
#include <optional>

#include "model/templates/filters.h"
#include "model/templates/value_tests.h"

namespace fewbits::templates {

Expr ExpressionParser::tuple(bool with_if) {
  const int line = tokens_.line();
  std::vector<Expr> items;
  bool comma = false;
  while (!at_tuple_end()) {
    items.push_back(with_if ? expression() : expression_without_if());
    if (!tokens_.skip_symbol(",")) break;
    comma = true;
  }
  if (comma) return tokens_.make(line, ListOf{std::move(items), Series::tuple});
  if (items.empty()) tokens_.fail_unexpected();
  return items[0];
}

bool ExpressionParser::at_tuple_end() const {
  return tokens_.is(TokenKind::print_end) || tokens_.is(TokenKind::block_end) ||
         tokens_.is_symbol(")");
}

Expr ExpressionParser::conditional() {
  const TokenStream::Level level(tokens_);
  const int line = tokens_.line();
  const size_t unknown = tokens_.unknown.size();
  Expr value = logical_or();
  while (tokens_.skip_name("if")) {
    tokens_.unknown.resize(unknown);  // what stands before the `if` is below it, too
    const Scoped<bool> lenient(tokens_.lenient, true);
    const Expr test = logical_or();
    const Expr otherwise = tokens_.skip_name("else") ? conditional() : nullptr;
    value = tokens_.make(line, Conditional{test, value, otherwise});
  }
  return value;
}

Expr ExpressionParser::logical_or() {
  const int line = tokens_.line();
  Expr left = logical_and();
  while (tokens_.skip_name("or")) left = tokens_.make(line, Or{left, logical_and()});
  return left;
}

Expr ExpressionParser::logical_and() {
  const int line = tokens_.line();
  Expr left = logical_not();
  while (tokens_.skip_name("and")) left = tokens_.make(line, And{left, logical_not()});
  return left;
}

Expr ExpressionParser::logical_not() {
  const TokenStream::Level level(tokens_);
  const int line = tokens_.line();
  if (!tokens_.skip_name("not")) return compare();
  return tokens_.make(line, Unary{Operator::logical_not, logical_not()});
}

Expr ExpressionParser::compare() {
  constexpr std::pair<std::string_view, Operator> kSymbols[] = {
      {"==", Operator::equal},      {"!=", Operator::not_equal}, {"<", Operator::less},
      {"<=", Operator::less_equal}, {">", Operator::greater},    {">=", Operator::greater_equal}};
  const auto take = [&]() -> std::optional<Operator> {
    for (const auto& [symbol, op] : kSymbols) {
      if (tokens_.skip_symbol(symbol)) return op;
    }
    if (tokens_.skip_name("in")) return Operator::in;
    if (!tokens_.is_name("not") || tokens_.ahead().kind != TokenKind::name ||
        tokens_.ahead().text != "in") {
      return std::nullopt;
    }
    tokens_.next();
    tokens_.next();
    return Operator::not_in;
  };
  const int line = tokens_.line();
  const Expr first = sum();
  std::vector<std::pair<Operator, Expr>> rest;
  while (const auto op = take()) rest.emplace_back(*op, sum());
  return rest.empty() ? first : tokens_.make(line, Compare{first, std::move(rest)});
}

Expr ExpressionParser::binary(
    Parse operand, std::initializer_list<std::pair<std::string_view, Operator>> operators) {
  const auto take = [&]() -> std::optional<Operator> {
    for (const auto& [symbol, op] : operators) {
      if (tokens_.skip_symbol(symbol)) return op;
    }
    return std::nullopt;
  };
  const int line = tokens_.line();
  Expr left = (this->*operand)();
  while (const auto op = take()) left = tokens_.make(line, Binary{*op, left, (this->*operand)()});
  return left;
}

Expr ExpressionParser::sum() {
  return binary(&ExpressionParser::concat, {{"+", Operator::add}, {"-", Operator::subtract}});
}

Expr ExpressionParser::concat() {
  const int line = tokens_.line();
  std::vector<Expr> parts = {product()};
  while (tokens_.skip_symbol("~")) parts.push_back(product());
  return parts.size() == 1 ? parts[0] : tokens_.make(line, Concat{std::move(parts)});
}

Expr ExpressionParser::product() {
  return binary(&ExpressionParser::power, {{"*", Operator::multiply},
                                           {"/", Operator::divide},
                                           {"//", Operator::floor_divide},
                                           {"%", Operator::modulo}});
}

Expr ExpressionParser::power() {
  return binary(&ExpressionParser::unary_with_filters, {{"**", Operator::power}});
}

Expr ExpressionParser::unary(bool with_filters) {
  const TokenStream::Level level(tokens_);
  const int line = tokens_.line();
  Expr value;
  if (tokens_.skip_symbol("-")) {
    value = tokens_.make(line, Unary{Operator::negate, unary(false)});
  } else if (tokens_.skip_symbol("+")) {
    value = tokens_.make(line, Unary{Operator::plus, unary(false)});
  } else {
    value = primary();
  }
  value = postfix(value);
  return with_filters ? filters_and_tests(value) : value;
}

Expr ExpressionParser::primary() {
  const int line = tokens_.line();
  switch (tokens_.current().kind) {
    case TokenKind::name:
      return name();
    case TokenKind::string:
      return string();
    case TokenKind::integer:
      return integer();
    case TokenKind::floating: {
      // strtod, not from_chars: "1e999" is infinite, as in Python
      const double value = std::strtod(tokens_.next().text.c_str(), nullptr);
      return tokens_.make(line, Constant{value});
    }
    default:
      break;
  }
  if (tokens_.is_symbol("[")) return list();
  if (tokens_.is_symbol("{")) return dict();
  if (!tokens_.skip_symbol("(")) tokens_.fail_unexpected();
  if (tokens_.skip_symbol(")")) return tokens_.make(line, ListOf{{}, Series::tuple});
  const Expr inside = tuple();
  tokens_.expect_symbol(")");
  return inside;
}

Expr ExpressionParser::name() {
  const int line = tokens_.line();
  const std::string_view name = tokens_.expect_name();
  if (name == "true" || name == "True") return tokens_.make(line, Constant{true});
  if (name == "false" || name == "False") return tokens_.make(line, Constant{false});
  if (name == "none" || name == "None") return tokens_.make(line, Constant{None{}});
  if (tokens_.macro != nullptr) {
    if (name == "varargs") tokens_.macro->takes_varargs = true;
    if (name == "kwargs") tokens_.macro->takes_kwargs = true;
  }
  return tokens_.make(line, Name{name});
}

Expr ExpressionParser::string() {
  const int line = tokens_.line();
  std::string text;
  while (tokens_.is(TokenKind::string)) text += tokens_.next().text;
  return tokens_.make(line, Constant{Text{tokens_.keep(std::move(text))}});
}

Expr ExpressionParser::integer() {
  const int line = tokens_.line();
  const std::string& text = tokens_.current().text;
  int base = 10;
  if (text.size() > 1 && text[0] == '0') {
    const char kind = static_cast<char>(text[1] | 0x20);
    base = kind == 'x' ? 16 : kind == 'o' ? 8 : kind == 'b' ? 2 : 10;
  }
  const char* end = text.data() + text.size();
  int64_t value = 0;
  const auto result = std::from_chars(text.data() + (base == 10 ? 0 : 2), end, value, base);
  if (result.ec != std::errc{}) tokens_.fail(fmt::format("integer {} is above 2^63", text));
  tokens_.next();
  return tokens_.make(line, Constant{value});
}

Expr ExpressionParser::list() {
  const int line = tokens_.line();
  tokens_.expect_symbol("[");
  std::vector<Expr> items;
  while (!tokens_.skip_symbol("]")) {
    items.push_back(expression());
    if (!tokens_.is_symbol("]")) tokens_.expect_symbol(",");
  }
  return tokens_.make(line, ListOf{std::move(items), Series::list});
}

Expr ExpressionParser::dict() {
  const int line = tokens_.line();
  tokens_.expect_symbol("{");
  std::vector<std::pair<Expr, Expr>> entries;
  while (!tokens_.skip_symbol("}")) {
    const Expr key = expression();
    tokens_.expect_symbol(":");
    entries.emplace_back(key, expression());
    if (!tokens_.is_symbol("}")) tokens_.expect_symbol(",");
  }
  return tokens_.make(line, DictOf{std::move(entries)});
}

Expr ExpressionParser::postfix(Expr value) {
  while (true) {
    if (tokens_.is_symbol(".")) {
      value = dot(value);
    } else if (tokens_.is_symbol("[")) {
      value = brackets(value);
    } else if (tokens_.is_symbol("(")) {
      value = call(value);
    } else {
      return value;
    }
  }
}

Expr ExpressionParser::filters_and_tests(Expr value) {
  while (true) {
    if (tokens_.is_symbol("|")) {
      value = filters(value);
    } else if (tokens_.is_name("is")) {
      value = test(value);
    } else if (tokens_.is_symbol("(")) {
      value = call(value);
    } else {
      return value;
    }
  }
}

Expr ExpressionParser::dot(Expr value) {
  const int line = tokens_.line();
  tokens_.expect_symbol(".");
  if (tokens_.is(TokenKind::integer)) {
    const Expr key = integer();
    return tokens_.make(line, Subscript{value, key});
  }
  return tokens_.make(line, Attribute{value, tokens_.expect_name()});
}

Expr ExpressionParser::brackets(Expr value) {
  const int line = tokens_.line();
  tokens_.expect_symbol("[");
  std::vector<Expr> keys;
  while (!tokens_.skip_symbol("]")) {
    const Expr key = tokens_.is_symbol(":") ? nullptr : expression();
    if (tokens_.is_symbol(":")) {
      const Expr part = slice(value, key);
      if (!keys.empty() || !tokens_.skip_symbol("]"))
        tokens_.fail("a slice stands alone in its []");
      return part;
    }
    keys.push_back(key);
    if (!tokens_.is_symbol("]")) tokens_.expect_symbol(",");
  }
  if (keys.size() == 1) return tokens_.make(line, Subscript{value, keys[0]});
  const Expr tuple = tokens_.make(line, ListOf{std::move(keys), Series::tuple});
  return tokens_.make(line, Subscript{value, tuple});
}

/// At the first colon of [first:last:step].
Expr ExpressionParser::slice(Expr value, Expr first) {
  const int line = tokens_.line();
  tokens_.expect_symbol(":");
  const Expr last = slice_part();
  const Expr step = tokens_.skip_symbol(":") ? slice_part() : nullptr;
  return tokens_.make(line, Slice{value, first, last, step});
}

Expr ExpressionParser::slice_part() {
  const bool empty = tokens_.is_symbol(":") || tokens_.is_symbol("]") || tokens_.is_symbol(",");
  return empty ? nullptr : expression();
}

Expr ExpressionParser::call(Expr callee) {
  const int line = tokens_.line();
  return tokens_.make(line, Call{callee, arguments()});
}

CallArguments ExpressionParser::arguments() {
  CallArguments result;
  tokens_.expect_symbol("(");
  while (!tokens_.skip_symbol(")")) {
    if (tokens_.is_symbol("*") || tokens_.is_symbol("**")) {
      tokens_.fail("* and ** in a call are not supported");
    }
    const bool named = tokens_.is(TokenKind::name) && tokens_.ahead().kind == TokenKind::symbol &&
                       tokens_.ahead().text == "=";
    if (named) {
      const std::string_view name = tokens_.expect_name();
      tokens_.next();
      for (const auto& [known, value] : result.named) {
        if (known == name) tokens_.fail(fmt::format("argument '{}' is given twice", name));
      }
      result.named.emplace_back(name, expression());
    } else {
      if (!result.named.empty()) tokens_.fail("an argument without name behind one with name");
      result.positional.push_back(expression());
    }
    if (!tokens_.is_symbol(")")) tokens_.expect_symbol(",");
  }
  return result;
}

Expr ExpressionParser::filters(Expr input, bool begun) {
  if (begun) input = filter(input);
  while (tokens_.skip_symbol("|")) input = filter(input);
  return input;
}

Expr ExpressionParser::filter(Expr input) {
  const int line = tokens_.line();
  const std::string_view name = dotted_name();
  CallArguments given;
  if (tokens_.is_symbol("(")) given = arguments();
  const FilterEntry* entry = find_filter(name);
  if (entry == nullptr && !tokens_.lenient) {
    tokens_.unknown.push_back({line, fmt::format("no filter is named '{}'", name)});
  }
  return tokens_.make(line, Filter{input, entry, name, std::move(given)});
}

Expr ExpressionParser::test(Expr input) {
  const int line = tokens_.line();
  tokens_.next();  // is
  const bool negated = tokens_.skip_name("not");
  const std::string_view name = dotted_name();
  CallArguments given = test_arguments();
  const TestEntry* entry = find_test(name);
  if (entry == nullptr && !tokens_.lenient) {
    tokens_.unknown.push_back({line, fmt::format("no test is named '{}'", name)});
  }
  const Expr result = tokens_.make(line, Test{input, entry, name, std::move(given)});
  return negated ? tokens_.make(line, Unary{Operator::logical_not, result}) : result;
}

/// A test takes its argument in parentheses or bare: `x is divisibleby 3`.
CallArguments ExpressionParser::test_arguments() {
  if (tokens_.is_symbol("(")) return arguments();
  const TokenKind kind = tokens_.current().kind;
  const bool value = kind == TokenKind::name || kind == TokenKind::string ||
                     kind == TokenKind::integer || kind == TokenKind::floating ||
                     tokens_.is_symbol("[") || tokens_.is_symbol("{");
  if (!value || tokens_.is_any_name({"else", "or", "and"})) return {};
  if (tokens_.is_name("is")) tokens_.fail("tests cannot be chained with 'is'");
  CallArguments result;
  result.positional.push_back(postfix(primary()));
  return result;
}

std::string_view ExpressionParser::dotted_name() {
  std::string_view name = tokens_.expect_name();
  while (tokens_.skip_symbol(".")) {
    name = *tokens_.keep(fmt::format("{}.{}", name, tokens_.expect_name()));
  }
  return name;
}

}  // namespace fewbits::templates
