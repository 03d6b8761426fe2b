#include "model/chat_template.h"

#include "base/error.h"
#include "model/templates/evaluator.h"
#include "model/templates/parser.h"

namespace fewbits {

struct ChatTemplate::Impl {
  templates::Ast ast;
};

ChatTemplate::ChatTemplate(std::string_view source)
    : impl_(std::make_unique<Impl>(Impl{templates::parse(source)})) {}

ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;
ChatTemplate::~ChatTemplate() = default;

std::string ChatTemplate::render(const Json& context) const {
  if (!context.is_object()) throw Error("chat template: the context must be an object");
  templates::Runtime runtime;
  return templates::Evaluator(runtime).run(impl_->ast, context);
}

}  // namespace fewbits
