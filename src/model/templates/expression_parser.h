#pragma once

#include "model/templates/token_stream.h"

// Expressions, by precedence: each function below takes what the one after it takes, joined by its
// own operators.
namespace fewbits::templates {

class ExpressionParser {
 public:
  explicit ExpressionParser(TokenStream& tokens) : tokens_(tokens) {}

  Expr expression() { return conditional(); }
  /// Without `a if b else c`, where an `if` belongs to the statement.
  Expr expression_without_if() { return logical_or(); }
  /// One expression, or several with commas: a tuple.
  Expr tuple(bool with_if = true);
  /// name, (a, b), literals.
  Expr primary();
  /// The chain |filter|filter on `input`; with `begun` the first | is left out.
  Expr filters(Expr input, bool begun = false);

 private:
  using Parse = Expr (ExpressionParser::*)();
  Expr conditional();
  Expr logical_or();
  Expr logical_and();
  Expr logical_not();
  Expr compare();
  Expr sum();
  Expr concat();
  Expr product();
  Expr power();
  Expr unary(bool with_filters);
  Expr unary_with_filters() { return unary(true); }
  Expr binary(Parse operand,
              std::initializer_list<std::pair<std::string_view, Operator>> operators);
  Expr name();
  Expr string();
  Expr integer();
  Expr list();
  Expr dict();
  Expr postfix(Expr value);
  Expr filters_and_tests(Expr value);
  Expr dot(Expr value);
  Expr brackets(Expr value);
  Expr slice(Expr value, Expr first);
  Expr slice_part();
  Expr call(Expr callee);
  CallArguments arguments();
  Expr filter(Expr input);
  Expr test(Expr input);
  CallArguments test_arguments();
  bool at_tuple_end() const;
  std::string_view dotted_name();

  TokenStream& tokens_;
};

}  // namespace fewbits::templates
