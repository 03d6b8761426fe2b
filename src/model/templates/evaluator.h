#pragma once

#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "model/templates/ast.h"
#include "model/templates/runtime.h"

// Runs a parsed template.
//
// Variables live in scopes, innermost last. A `for` has one for each iteration, so that what is set
// inside is gone after it; `if` has none. A macro sees the scopes around its definition, not those
// of its caller.
namespace fewbits::templates {

class Evaluator {
 public:
  explicit Evaluator(Runtime& runtime) : runtime_(runtime) {}

  /// REQUIRES: `context` is an object; it and `ast` outlive the Runtime.
  std::string run(const Ast& ast, const Json& context);

 private:
  enum class Flow { next, stop_loop, next_iteration };

  struct Scope {
    int64_t id;
    size_t parent;
    std::unordered_map<std::string_view, Value> variables;
  };
  /// Makes a scope the current one for as long as this lives.
  class Inside;

  // statements.cc
  Flow execute(const Block& block, Writer& out);
  Flow execute(const Data& data, Writer& out);
  Flow execute(const Print& print, Writer& out);
  Flow execute(const Set& set, Writer& out);
  Flow execute(const SetBlock& set, Writer& out);
  Flow execute(const If& branches, Writer& out);
  Flow execute(const For& loop, Writer& out);
  Flow execute(const DefineMacro& define, Writer& out);
  Flow execute(const FilterBlock& block, Writer& out);
  Flow execute(const With& with, Writer& out);
  Flow execute(const Generation& block, Writer& out);
  Flow execute(const Break&, Writer&) { return Flow::stop_loop; }
  Flow execute(const Continue&, Writer&) { return Flow::next_iteration; }
  Loop* make_loop(const For& loop);
  bool passes(const For& loop, const Value& item, size_t scope);
  void assign_to(const Target& target, const Value& value);
  void set_variable(std::string_view name, const Value& value);
  Value call_macro(const Macro& macro, const Arguments& arguments);
  void bind(const MacroDefinition& macro, const Arguments& arguments);

  // evaluator.cc
  Value evaluate(Expr expression);
  Value evaluate(const Constant& constant) { return constant.value; }
  Value evaluate(const Name& name) { return look_up(name.name); }
  Value evaluate(const ListOf& list);
  Value evaluate(const DictOf& dict);
  Value evaluate(const Attribute& attribute);
  Value evaluate(const Subscript& subscript);
  Value evaluate(const Slice& slice);
  Value evaluate(const Call& call);
  Value evaluate(const Filter& filter);
  Value evaluate(const Test& test);
  Value evaluate(const Unary& unary);
  Value evaluate(const Binary& binary);
  Value evaluate(const And& both);
  Value evaluate(const Or& either);
  Value evaluate(const Compare& compare);
  Value evaluate(const Concat& concat);
  Value evaluate(const Conditional& conditional);
  Arguments evaluate(const CallArguments& arguments);
  Value look_up(std::string_view name) const;

  Runtime& runtime_;
  std::vector<Scope> scopes_;
  Value block_text_;    ///< what the filters of the block that ends now start from
  size_t current_ = 0;  ///< index of the innermost scope
  int64_t next_id_ = 0;
};

class Evaluator::Inside {
 public:
  Inside(Evaluator& evaluator, size_t parent) : evaluator_(evaluator), before_(evaluator.current_) {
    evaluator.scopes_.push_back({evaluator.next_id_++, parent, {}});
    evaluator.current_ = evaluator.scopes_.size() - 1;
  }
  ~Inside() {
    evaluator_.scopes_.pop_back();
    evaluator_.current_ = before_;
  }
  Inside(const Inside&) = delete;
  Inside& operator=(const Inside&) = delete;

 private:
  Evaluator& evaluator_;
  size_t before_;
};

}  // namespace fewbits::templates
