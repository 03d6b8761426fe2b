#include "model/chat_prompts.h"

#include <fmt/format.h>

#include <optional>

#include "base/error.h"

namespace fewbits {
namespace {

const std::string& template_of(const Model& model) {
  if (!model.chat_template.empty()) return model.chat_template;
  throw Error(
      fmt::format("{}: the model has no chat template; it takes text (fewbits run) but no "
                  "messages",
                  model.path.string()));
}

}  // namespace

ChatPrompts::ChatPrompts(const Model& model) : model_(model), template_(template_of(model)) {}

std::vector<Token> ChatPrompts::tokens(const Json& messages, End end) const {
  const auto text_of = [&](std::optional<Token> token) {
    return token ? std::string(model_.tokenizer.text(*token)) : std::string();
  };
  const Json context = {{"messages", messages},
                        {"add_generation_prompt", end == End::kBegunAnswer},
                        {"bos_token", text_of(model_.tokenizer.bos())},
                        {"eos_token", text_of(model_.tokenizer.eos())}};
  return model_.tokenizer.encode(template_.render(context), Tokenizer::Special::kParse);
}

}  // namespace fewbits
