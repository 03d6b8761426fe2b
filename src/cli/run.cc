#include <fmt/format.h>

#include <memory>

#include "base/error.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/generation.h"
#include "model/chat_prompts.h"

namespace fewbits::cli {
namespace {

struct RunArguments {
  GenerationArguments generation;
  std::string prompt;
  bool chat = false;
  bool repack = true;
};

Json to_json(const GenerateResult& result) {
  return {{"text", result.text},
          {"prompt_tokens", result.prompt_tokens},
          {"generated_tokens", result.tokens.size()},
          {"prefill_tokens_per_second", result.prefill_tokens_per_second()},
          {"decode_tokens_per_second", result.decode_tokens_per_second()},
          {"stop", std::string(stop_reason_text(result.stop))},
          {"peak_memory_bytes", peak_memory_bytes()}};
}

std::vector<Token> prompt_tokens(const Model& model, const RunArguments& arguments) {
  if (!arguments.chat) return model.tokenizer.encode_with_bos(arguments.prompt);
  const Json messages = Json::array({{{"role", "user"}, {"content", arguments.prompt}}});
  return ChatPrompts(model).tokens(messages);
}

void run(RunArguments& arguments) {
  GenerationArguments& generation = arguments.generation;
  const Model model = open_model(generation.model);
  warn_all(model.warnings);
  const std::vector<Token> prompt = prompt_tokens(model, arguments);
  ThreadPool pool(generation.threads);
  Engine engine(model, pool,
                {.pack = {.repack = arguments.repack},
                 .activations = generation.activations.options(generation.kv)});
  KvCache cache(model.config, context_for(model.config, generation), generation.kv.options());
  if (!generation.json) {
    if (!arguments.chat) print(arguments.prompt);
    generation.options.on_text = [](std::string_view text) { print(text); };
  }
  const GenerateResult result = generate(engine, cache, prompt, generation.options);
  if (generation.json) return print_json(to_json(result));
  print("\n");
  report_speed(result);
  if (result.stop == StopReason::kInterrupted) throw Interrupted("interrupted");
}

}  // namespace

void add_run(CLI::App& app) {
  const auto arguments = std::make_shared<RunArguments>();
  CLI::App* verb = app.add_subcommand("run", "Continue a text");
  declare(arguments->generation, *verb);
  verb->add_option("prompt", arguments->prompt, "The text to continue")->required();
  verb->add_flag("--chat", arguments->chat,
                 "The text is a message: apply the model's chat template");
  verb->add_flag("!--no-repack", arguments->repack,
                 "Compute from the mapped file, copy no weights (slower)");
  verb->add_flag("--json", arguments->generation.json, "Print the facts as JSON");
  verb->callback([arguments] { run(*arguments); });
}

}  // namespace fewbits::cli
