#pragma once

#include <deque>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "model/templates/value.h"

// A parsed template. Nodes lie in the Ast and point to each other without owning, so that a deep
// tree is freed without recursion.
namespace fewbits::templates {

struct Expression;
using Expr = const Expression*;  ///< null where a part is left out

struct CallArguments {
  std::vector<Expr> positional;
  std::vector<std::pair<std::string_view, Expr>> named;
};

enum class Operator {
  add,
  subtract,
  multiply,
  divide,
  floor_divide,
  modulo,
  power,
  equal,
  not_equal,
  less,
  less_equal,
  greater,
  greater_equal,
  in,
  not_in,
  negate,
  plus,
  logical_not,
};

struct FilterEntry;
struct TestEntry;

struct Constant {
  Value value;
};
struct Name {
  std::string_view name;
};
struct ListOf {
  std::vector<Expr> items;
  Series series;
};
struct DictOf {
  std::vector<std::pair<Expr, Expr>> entries;
};
struct Attribute {
  Expr object;
  std::string_view name;
};
struct Subscript {
  Expr object, key;
};
struct Slice {
  Expr object, first, last, step;
};
struct Call {
  Expr callee;
  CallArguments arguments;
};
/// `entry` is null for a filter that does not exist: an error once it runs. `input` is null for
/// that of a block.
struct Filter {
  Expr input;
  const FilterEntry* entry;
  std::string_view name;
  CallArguments arguments;
};
struct Test {
  Expr input;
  const TestEntry* entry;
  std::string_view name;
  CallArguments arguments;
};
struct Unary {
  Operator op;
  Expr operand;
};
struct Binary {
  Operator op;
  Expr left, right;
};
struct And {
  Expr left, right;
};
struct Or {
  Expr left, right;
};
/// a < b <= c
struct Compare {
  Expr first;
  std::vector<std::pair<Operator, Expr>> rest;
};
/// a ~ b ~ c
struct Concat {
  std::vector<Expr> parts;
};
struct Conditional {
  Expr test, yes, no;
};

struct Expression {
  int line;
  std::variant<Constant, Name, ListOf, DictOf, Attribute, Subscript, Slice, Call, Filter, Test,
               Unary, Binary, And, Or, Compare, Concat, Conditional>
      node;
};

struct Statement;
using Block = std::vector<Statement>;

/// What is assigned to: a name, name.attribute, or several targets.
struct Target {
  std::string_view name, attribute;
  std::vector<Target> parts;  ///< of a tuple
  bool is_tuple = false;
};

struct MacroDefinition {
  std::string_view name;
  std::vector<std::pair<std::string_view, Expr>> parameters;  ///< with their defaults
  bool takes_varargs = false, takes_kwargs = false;           ///< the body uses these names
  Block body;
};

struct Data {
  std::string text;
};
struct Print {
  Expr value;
};
struct Set {
  Target target;
  Expr value;
};
struct SetBlock {
  Target target;
  Expr filter;
  Block body;
};
/// The condition of `else` is null.
struct If {
  std::vector<std::pair<Expr, Block>> branches;
};
struct For {
  Target target;
  Expr items = nullptr, filter = nullptr;
  Block body, otherwise;
};
struct DefineMacro {
  MacroDefinition macro;
};
struct FilterBlock {
  Expr filter;
  Block body;
};
struct With {
  std::vector<std::pair<Target, Expr>> values;
  Block body;
};
/// {% generation %}: marks what the model wrote, for training; here only a scope.
struct Generation {
  Block body;
};
struct Break {};
struct Continue {};

struct Statement {
  int line;
  std::variant<Data, Print, Set, SetBlock, If, For, DefineMacro, FilterBlock, With, Generation,
               Break, Continue>
      node;
};

struct Ast {
  std::deque<Expression> expressions;
  std::deque<std::string> strings;  ///< names and literals that the nodes point to
  Block body;
};

}  // namespace fewbits::templates
