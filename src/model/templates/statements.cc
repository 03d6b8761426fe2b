#include <fmt/format.h>

#include "model/templates/evaluator.h"
#include "model/templates/loop.h"
#include "model/templates/operators.h"
#include "model/templates/print.h"

// The statements' half of Evaluator.
namespace fewbits::templates {

Evaluator::Flow Evaluator::execute(const Block& block, Writer& out) {
  const Runtime::Level level(runtime_);
  for (const Statement& statement : block) {
    runtime_.line = statement.line;
    runtime_.spend();
    const Flow flow =
        std::visit([&](const auto& node) { return execute(node, out); }, statement.node);
    if (flow != Flow::next) return flow;
  }
  return Flow::next;
}

Evaluator::Flow Evaluator::execute(const Data& data, Writer& out) {
  out.add(data.text);
  return Flow::next;
}

Evaluator::Flow Evaluator::execute(const Print& print, Writer& out) {
  const Value value = evaluate(print.value);
  if (const auto* text = as<Text>(value)) {
    out.add(text->view());
  } else {
    out.add(to_text(runtime_, value));
  }
  return Flow::next;
}

Evaluator::Flow Evaluator::execute(const Set& set, Writer&) {
  assign_to(set.target, evaluate(set.value));
  return Flow::next;
}

Evaluator::Flow Evaluator::execute(const SetBlock& set, Writer&) {
  Writer captured(runtime_);
  Value value;
  {
    const Inside scope(*this, current_);
    const Flow flow = execute(set.body, captured);
    if (flow != Flow::next) return flow;
    value = runtime_.text(captured.take());
    block_text_ = value;
    if (set.filter != nullptr) value = evaluate(set.filter);
  }
  assign_to(set.target, value);
  return Flow::next;
}

Evaluator::Flow Evaluator::execute(const If& branches, Writer& out) {
  for (const auto& [condition, body] : branches.branches) {
    if (condition == nullptr || truth(evaluate(condition))) return execute(body, out);
  }
  return Flow::next;
}

Evaluator::Flow Evaluator::execute(const For& statement, Writer& out) {
  Loop* loop = make_loop(statement);
  bool finished_one = false;  // jinja2 runs `else` also where each iteration ended early
  while (advance(*loop)) {
    runtime_.spend(4);  // a scope takes as long as some expressions
    const Inside scope(*this, current_);
    set_variable("loop", loop);
    assign_to(statement.target, loop->current);
    const Flow flow = execute(statement.body, out);
    if (flow == Flow::stop_loop) break;
    finished_one = finished_one || flow == Flow::next;
  }
  loop->next = [](Value&) { return false; };
  loop->ahead.clear();
  if (finished_one) return Flow::next;
  const Inside scope(*this, current_);
  return execute(statement.otherwise, out);
}

/// The items are filtered when they are asked for: the filter may look at what the body sets.
Loop* Evaluator::make_loop(const For& statement) {
  const Value source = evaluate(statement.items);
  const std::span<const Value> items = iterate(runtime_, source);
  Loop* loop = runtime_.loop();
  if (statement.filter == nullptr) loop->known_length = static_cast<int64_t>(items.size());
  const size_t scope = current_;
  loop->next = [this, &statement, items, scope, at = size_t{0}](Value& item) mutable {
    while (at < items.size()) {
      item = items[at++];
      if (passes(statement, item, scope)) return true;
    }
    return false;
  };
  return loop;
}

bool Evaluator::passes(const For& statement, const Value& item, size_t scope) {
  if (statement.filter == nullptr) return true;
  const Inside inside(*this, scope);
  assign_to(statement.target, item);
  return truth(evaluate(statement.filter));
}

Evaluator::Flow Evaluator::execute(const DefineMacro& define, Writer&) {
  const Macro macro{&define.macro, current_, scopes_[current_].id};
  set_variable(define.macro.name, runtime_.macro(macro));
  return Flow::next;
}

Evaluator::Flow Evaluator::execute(const FilterBlock& block, Writer& out) {
  Writer captured(runtime_);
  const Inside scope(*this, current_);
  const Flow flow = execute(block.body, captured);
  if (flow != Flow::next) return flow;
  block_text_ = runtime_.text(captured.take());
  out.add(to_text(runtime_, evaluate(block.filter)));
  return Flow::next;
}

Evaluator::Flow Evaluator::execute(const With& with, Writer& out) {
  std::vector<Value> values;  // none of them sees the others
  for (const auto& [target, value] : with.values) values.push_back(evaluate(value));
  const Inside scope(*this, current_);
  for (size_t i = 0; i < values.size(); ++i) assign_to(with.values[i].first, values[i]);
  return execute(with.body, out);
}

Evaluator::Flow Evaluator::execute(const Generation& block, Writer& out) {
  const Inside scope(*this, current_);
  return execute(block.body, out);
}

void Evaluator::assign_to(const Target& target, const Value& value) {
  if (target.is_tuple) {
    const std::span<const Value> items = iterate(runtime_, value);
    if (items.size() != target.parts.size()) {
      runtime_.fail(fmt::format("{} values for {} names", items.size(), target.parts.size()));
    }
    for (size_t i = 0; i < items.size(); ++i) assign_to(target.parts[i], items[i]);
  } else if (target.attribute.empty()) {
    set_variable(target.name, value);
  } else {
    const Value holder = look_up(target.name);
    const auto* space = std::get_if<Namespace*>(&holder);
    if (space == nullptr) {
      runtime_.fail(
          fmt::format("'{}' is no namespace(): only these have attributes to set", target.name));
    }
    assign(runtime_, (*space)->fields, runtime_.text(std::string(target.attribute)), value);
  }
}

void Evaluator::set_variable(std::string_view name, const Value& value) {
  scopes_[current_].variables[name] = value;
}

Value Evaluator::call_macro(const Macro& macro, const Arguments& arguments) {
  if (macro.scope >= scopes_.size() || scopes_[macro.scope].id != macro.scope_id) {
    runtime_.fail(fmt::format("macro '{}' is called outside the block that defines it",
                              macro.definition->name));
  }
  const Inside scope(*this, macro.scope);
  bind(*macro.definition, arguments);
  Writer out(runtime_);
  execute(macro.definition->body, out);
  return runtime_.text(out.take());
}

/// Sets the parameters in the macro's own scope, from left to right: a default may use those before
/// it.
void Evaluator::bind(const MacroDefinition& macro, const Arguments& arguments) {
  size_t positional = 0;
  std::vector<bool> used(arguments.named.size(), false);
  for (const auto& [name, fallback] : macro.parameters) {
    Value value = Undefined{name};
    bool given = positional < arguments.positional.size();
    if (given) value = arguments.positional[positional++];
    for (size_t i = 0; i < used.size() && !given; ++i) {
      if (arguments.named[i].first != name) continue;
      value = arguments.named[i].second;
      given = used[i] = true;
    }
    if (!given && fallback != nullptr) value = evaluate(fallback);
    set_variable(name, value);
  }
  Dict rest_named;
  for (size_t i = 0; i < used.size(); ++i) {
    const auto& [name, value] = arguments.named[i];
    if (used[i]) continue;
    if (!macro.takes_kwargs) {
      runtime_.fail(fmt::format("macro '{}' has no parameter '{}'", macro.name, name));
    }
    rest_named.entries.emplace_back(runtime_.text(std::string(name)), value);
  }
  if (macro.takes_kwargs) set_variable("kwargs", runtime_.dict(std::move(rest_named)));
  const auto rest = arguments.positional.begin() + static_cast<std::ptrdiff_t>(positional);
  if (macro.takes_varargs) {
    const std::vector<Value> extra(rest, arguments.positional.end());
    set_variable("varargs", runtime_.list(extra, Series::tuple));
  } else if (rest != arguments.positional.end()) {
    runtime_.fail(
        fmt::format("macro '{}' takes {} arguments", macro.name, macro.parameters.size()));
  }
}

}  // namespace fewbits::templates
