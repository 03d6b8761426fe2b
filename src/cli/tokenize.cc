#include <fmt/format.h>

#include <iostream>
#include <iterator>
#include <memory>

#include "cli/commands.h"
#include "cli/console.h"
#include "model/model.h"

namespace fewbits::cli {
namespace {

struct TokenizeArguments {
  std::string model;
  std::string text;
  bool text_given = false;
  bool special = false;
  bool bos = false;
  bool ids = false;
  bool json = false;
};

void tokenize(const TokenizeArguments& arguments) {
  const Model model = open_model(arguments.model);
  const std::string text = arguments.text_given
                               ? arguments.text
                               : std::string(std::istreambuf_iterator<char>(std::cin), {});
  const auto special = arguments.special ? Tokenizer::Special::kParse : Tokenizer::Special::kAsText;
  const auto tokens = arguments.bos ? model.tokenizer.encode_with_bos(text, special)
                                    : model.tokenizer.encode(text, special);
  if (arguments.json) return print_json({{"tokens", tokens}});
  if (arguments.ids) return print(fmt::format("{}\n", fmt::join(tokens, " ")));
  for (const Token token : tokens) {
    print(fmt::format("{:>8} {}\n", token,
                      Json(std::string(model.tokenizer.text(token)))
                          .dump(-1, ' ', false, Json::error_handler_t::replace)));
  }
}

}  // namespace

void add_tokenize(CLI::App& app) {
  const auto arguments = std::make_shared<TokenizeArguments>();
  CLI::App* verb = app.add_subcommand("tokenize", "Show the tokens of a text");
  verb->add_option("model", arguments->model, "Hugging Face folder or .gguf file")->required();
  CLI::Option* text =
      verb->add_option("text", arguments->text, "The text; without it, standard input");
  verb->add_flag("--special", arguments->special, "Read special tokens in the text as such");
  verb->add_flag("--bos", arguments->bos, "Add the tokens the model adds at the start and end");
  verb->add_flag("--ids", arguments->ids, "Only the numbers, on one line");
  verb->add_flag("--json", arguments->json, "Print the facts as JSON");
  verb->callback([arguments, text] {
    arguments->text_given = text->count() > 0;
    tokenize(*arguments);
  });
}

}  // namespace fewbits::cli
