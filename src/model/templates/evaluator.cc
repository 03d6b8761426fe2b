#include "model/templates/evaluator.h"

#include <fmt/format.h>

#include "model/templates/attributes.h"
#include "model/templates/filters.h"
#include "model/templates/functions.h"
#include "model/templates/methods.h"
#include "model/templates/operators.h"
#include "model/templates/print.h"
#include "model/templates/value_tests.h"

namespace fewbits::templates {

std::string Evaluator::run(const Ast& ast, const Json& context) {
  const Inside root(*this, 0);
  for (auto item = context.begin(); item != context.end(); ++item) {
    set_variable(item.key(), runtime_.from_json(item.value()));
  }
  Writer out(runtime_);
  execute(ast.body, out);
  return out.take();
}

Value Evaluator::evaluate(Expr expression) {
  const Runtime::Level level(runtime_);
  runtime_.line = expression->line;
  runtime_.spend();
  return std::visit([this](const auto& node) { return evaluate(node); }, expression->node);
}

Value Evaluator::look_up(std::string_view name) const {
  for (size_t at = current_;; at = scopes_[at].parent) {
    const auto found = scopes_[at].variables.find(name);
    if (found != scopes_[at].variables.end()) return found->second;
    if (at == 0) break;
  }
  if (const Function* function = find_function(name)) return function;
  return Undefined{name};
}

Value Evaluator::evaluate(const ListOf& list) {
  std::vector<Value> items;
  items.reserve(list.items.size());
  for (const Expr item : list.items) items.push_back(evaluate(item));
  return runtime_.list(std::move(items), list.series);
}

Value Evaluator::evaluate(const DictOf& dict) {
  Dict result;
  for (const auto& [key, value] : dict.entries) {
    const Value name = evaluate(key);
    assign(runtime_, result, name, evaluate(value));
  }
  return runtime_.dict(std::move(result));
}

Value Evaluator::evaluate(const Attribute& access) {
  return attribute(runtime_, evaluate(access.object), access.name);
}

Value Evaluator::evaluate(const Subscript& access) {
  const Value object = evaluate(access.object);
  return subscript(runtime_, object, evaluate(access.key));
}

Value Evaluator::evaluate(const Slice& access) {
  const Value object = evaluate(access.object);
  SliceBounds bounds;
  if (access.first != nullptr) bounds.first = evaluate(access.first);
  if (access.last != nullptr) bounds.last = evaluate(access.last);
  if (access.step != nullptr) bounds.step = evaluate(access.step);
  return slice(runtime_, object, bounds);
}

Arguments Evaluator::evaluate(const CallArguments& arguments) {
  Arguments result;
  for (const Expr argument : arguments.positional) result.positional.push_back(evaluate(argument));
  for (const auto& [name, argument] : arguments.named) {
    result.named.emplace_back(name, evaluate(argument));
  }
  return result;
}

Value Evaluator::evaluate(const Call& call) {
  const Value callee = evaluate(call.callee);
  const Arguments arguments = evaluate(call.arguments);
  if (const auto* macro = object<Macro>(callee)) return call_macro(*macro, arguments);
  if (const auto* method = object<Method>(callee)) return call_method(runtime_, *method, arguments);
  if (const auto* function = object<Function>(callee)) {
    return call_function(runtime_, *function, arguments);
  }
  if (is_undefined(callee)) fail_undefined(runtime_, callee);
  runtime_.fail(fmt::format("'{}' cannot be called", type_name(callee)));
}

Value Evaluator::evaluate(const Filter& filter) {
  if (filter.entry == nullptr) runtime_.fail(fmt::format("no filter is named '{}'", filter.name));
  const Value input = filter.input == nullptr ? block_text_ : evaluate(filter.input);
  return apply_filter(runtime_, *filter.entry, input, evaluate(filter.arguments));
}

Value Evaluator::evaluate(const Test& test) {
  if (test.entry == nullptr) runtime_.fail(fmt::format("no test is named '{}'", test.name));
  const Value input = evaluate(test.input);
  return apply_test(runtime_, *test.entry, input, evaluate(test.arguments));
}

Value Evaluator::evaluate(const Unary& unary) {
  const Value value = evaluate(unary.operand);
  if (unary.op == Operator::logical_not) return !truth(value);
  const Value negative = negate(runtime_, value);
  return unary.op == Operator::negate ? negative : negate(runtime_, negative);
}

Value Evaluator::evaluate(const Binary& binary) {
  const Value left = evaluate(binary.left);
  return arithmetic(runtime_, binary.op, left, evaluate(binary.right));
}

Value Evaluator::evaluate(const And& both) {
  const Value left = evaluate(both.left);
  return truth(left) ? evaluate(both.right) : left;
}

Value Evaluator::evaluate(const Or& either) {
  const Value left = evaluate(either.left);
  return truth(left) ? left : evaluate(either.right);
}

Value Evaluator::evaluate(const Compare& chain) {
  Value left = evaluate(chain.first);
  for (const auto& [op, operand] : chain.rest) {
    const Value right = evaluate(operand);
    if (!compare(runtime_, op, left, right)) return false;
    left = right;
  }
  return true;
}

Value Evaluator::evaluate(const Concat& concat) {
  Writer out(runtime_);
  for (const Expr part : concat.parts) out.add(to_text(runtime_, evaluate(part)));
  return runtime_.text(out.take());
}

Value Evaluator::evaluate(const Conditional& conditional) {
  if (truth(evaluate(conditional.test))) return evaluate(conditional.yes);
  if (conditional.no != nullptr) return evaluate(conditional.no);
  return Undefined{"the missing else of an if"};
}

}  // namespace fewbits::templates
