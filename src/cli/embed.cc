#include <fmt/format.h>

#include <iostream>
#include <memory>

#include "cli/commands.h"
#include "cli/console.h"
#include "engine/encoder.h"

namespace fewbits::cli {
namespace {

struct EmbedArguments {
  std::string model;
  std::vector<std::string> texts;
  int threads = 0;
  bool float_math = false;
  bool json = false;
};

/// The texts of the command line or, without any, the lines of standard input.
std::vector<std::string> texts_of(const EmbedArguments& arguments) {
  if (!arguments.texts.empty()) return arguments.texts;
  std::vector<std::string> lines;
  for (std::string line; std::getline(std::cin, line);) lines.push_back(line);
  return lines;
}

void embed(const EmbedArguments& arguments) {
  const Model model = open_model(arguments.model);
  warn_all(model.warnings);
  ThreadPool pool(arguments.threads);
  Encoder encoder(model, pool, {.pack = {.float_math = arguments.float_math}});
  Json vectors = Json::array();
  int64_t tokens = 0;
  for (const std::string& text : texts_of(arguments)) {
    const auto vector = encoder.embed(text);
    if (arguments.json) {
      vectors.push_back(vector);
      tokens += std::ssize(encoder.tokens_of(text));
    } else {
      print(fmt::format("{:.6f}\n", fmt::join(vector, " ")));
    }
  }
  if (!arguments.json) return;
  print_json({{"dimensions", model.config.hidden},
              {"pooling", pooling_name(model.config.pooling)},
              {"tokens", tokens},
              {"embeddings", std::move(vectors)}});
}

}  // namespace

void add_embed(CLI::App& app) {
  const auto arguments = std::make_shared<EmbedArguments>();
  CLI::App* verb = app.add_subcommand("embed", "Turn texts into vectors with an encoder model");
  verb->add_option("model", arguments->model, "Hugging Face folder or .gguf file")->required();
  verb->add_option("text", arguments->texts,
                   "The texts; without any, each line of standard input is one");
  verb->add_flag("--float-math", arguments->float_math,
                 "Compute in float: shows what integer kernels add");
  verb->add_option("--threads", arguments->threads, "0: one for each processor")
      ->check(CLI::Range(0, 1024));
  verb->add_flag("--json", arguments->json, "Print the facts as JSON");
  verb->callback([arguments] { embed(*arguments); });
}

}  // namespace fewbits::cli
