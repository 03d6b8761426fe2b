#pragma once

#include <initializer_list>
#include <string_view>
#include <vector>

#include "model/templates/ast.h"
#include "model/templates/lexer.h"

// What both halves of the parser share: the tokens, the tree under construction and the limit of
// nesting.
namespace fewbits::templates {

class TokenStream {
 public:
  TokenStream(std::vector<Token> tokens, Ast& ast) : ast_(ast), tokens_(std::move(tokens)) {}

  const Token& current() const { return tokens_[at_]; }
  const Token& ahead() const { return tokens_[at_ + (at_ + 1 < tokens_.size())]; }
  int line() const { return current().line; }

  bool is(TokenKind kind) const { return current().kind == kind; }
  bool is_name(std::string_view name) const {
    return is(TokenKind::name) && current().text == name;
  }
  bool is_symbol(std::string_view symbol) const {
    return is(TokenKind::symbol) && current().text == symbol;
  }
  bool is_any_name(std::initializer_list<std::string_view> names) const;

  const Token& next() { return tokens_[at_ + 1 < tokens_.size() ? at_++ : at_]; }
  bool skip_name(std::string_view name);
  bool skip_symbol(std::string_view symbol);
  void expect_symbol(std::string_view symbol);
  void expect(TokenKind kind);
  /// A name, kept as long as the tree.
  std::string_view expect_name();

  [[noreturn]] void fail(std::string_view what) const;
  [[noreturn]] void fail_unexpected() const;

  template <class Node>
  Expr make(int line, Node node) {
    return &ast_.expressions.emplace_back(Expression{line, std::move(node)});
  }
  const std::string* keep(std::string text) { return &ast_.strings.emplace_back(std::move(text)); }

  /// One level of nesting in the source; refuses one too many.
  class Level {
   public:
    explicit Level(TokenStream& stream);
    ~Level() { --stream_.depth_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;

   private:
    TokenStream& stream_;
  };

  // What the parts of the parser tell each other.
  /// Directly below an `if`: an unknown filter or test is an error only when it runs.
  bool lenient = false;
  /// The unknown filters and tests elsewhere.
  struct Unknown {
    int line;
    std::string what;
  };
  std::vector<Unknown> unknown;
  /// The macro whose body is parsed, or null.
  MacroDefinition* macro = nullptr;

 private:
  Ast& ast_;
  std::vector<Token> tokens_;
  size_t at_ = 0;
  int depth_ = 0;
};

/// Sets a variable for as long as this lives.
template <class T>
class Scoped {
 public:
  Scoped(T& variable, T value) : variable_(variable), before_(variable) { variable = value; }
  ~Scoped() { variable_ = before_; }
  Scoped(const Scoped&) = delete;
  Scoped& operator=(const Scoped&) = delete;

 private:
  T& variable_;
  T before_;
};

}  // namespace fewbits::templates
