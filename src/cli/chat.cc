#include <fmt/format.h>
#include <unistd.h>

#include <iostream>
#include <memory>
#include <string>

#include "base/error.h"
#include "base/interrupt.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/generation.h"
#include "model/chat_prompts.h"

namespace fewbits::cli {
namespace {

// Room kept for an answer when old turns have to go.
constexpr int64_t kRoomForAnswer = 256;

/// A conversation: the turns so far, and the model's cache of them.
class Conversation {
 public:
  Conversation(const Model& model, const std::string& system, const GenerationArguments& arguments,
               ThreadPool& pool)
      : prompts_(model),
        options_(arguments.options),
        engine_(model, pool, {.activations = arguments.activations.options(arguments.kv)}),
        cache_(model.config, context_for(model.config, arguments), arguments.kv.options()) {
    if (!system.empty()) turns_.push_back({{"role", "system"}, {"content", system}});
  }

  GenerateResult answer(const std::string& message) {
    turns_.push_back({{"role", "user"}, {"content", message}});
    const std::vector<Token> prompt = fitting_prompt();
    GenerateResult result = generate(engine_, cache_, prompt, options_);
    turns_.push_back({{"role", "assistant"}, {"content", result.text}});
    return result;
  }

 private:
  size_t first_turn() const { return turns_.front()["role"] == "system" ? 1 : 0; }

  /// The prompt, without the oldest question and answer as long as it leaves no room for an answer.
  std::vector<Token> fitting_prompt() {
    std::vector<Token> tokens = prompts_.tokens(turns_);
    const int64_t room = std::min(kRoomForAnswer, cache_.capacity() / 2);
    while (static_cast<int64_t>(tokens.size()) + room > cache_.capacity() &&
           turns_.size() > first_turn() + 2) {
      turns_.erase(turns_.begin() + static_cast<std::ptrdiff_t>(first_turn()),
                   turns_.begin() + static_cast<std::ptrdiff_t>(first_turn()) + 2);
      warn("the context is full: the oldest question and answer are forgotten");
      tokens = prompts_.tokens(turns_);
    }
    return tokens;
  }

  ChatPrompts prompts_;
  GenerateOptions options_;
  Engine engine_;
  KvCache cache_;
  Json turns_ = Json::array();
};

struct ChatArguments {
  GenerationArguments generation;
  std::string system;
  bool speed = false;
};

bool read_line(std::string& line, bool terminal) {
  if (terminal) print("> ");
  return static_cast<bool>(std::getline(std::cin, line));
}

void chat(ChatArguments& arguments) {
  GenerationArguments& generation = arguments.generation;
  const Model model = open_model(generation.model);
  warn_all(model.warnings);
  ThreadPool pool(generation.threads);
  generation.options.on_text = [](std::string_view text) { print(text); };
  Conversation conversation(model, arguments.system, generation, pool);
  const bool terminal = isatty(STDIN_FILENO) != 0;
  std::string line;
  while (!interrupted() && read_line(line, terminal)) {
    if (line.empty()) continue;
    const GenerateResult result = conversation.answer(line);
    print("\n");
    if (arguments.speed) report_speed(result);
    if (result.stop == StopReason::kContextFull) warn("the answer was cut: the context is full");
  }
  if (interrupted()) throw Interrupted("interrupted");
  if (terminal) print("\n");
}

}  // namespace

void add_chat(CLI::App& app) {
  const auto arguments = std::make_shared<ChatArguments>();
  CLI::App* verb = app.add_subcommand("chat", "Talk to a model, one message a line");
  arguments->generation.options.max_tokens = 1024;
  declare(arguments->generation, *verb);
  verb->add_option("--system", arguments->system, "Instructions that come before the conversation");
  verb->add_flag("--speed", arguments->speed, "Tell the speed after each answer");
  verb->callback([arguments] { chat(*arguments); });
}

}  // namespace fewbits::cli
