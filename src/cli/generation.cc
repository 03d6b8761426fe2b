#include "cli/generation.h"

#include <fmt/format.h>

#include <algorithm>

#include "cli/console.h"

namespace fewbits::cli {

void declare(GenerationArguments& arguments, CLI::App& verb) {
  SamplerOptions& sampler = arguments.options.sampler;
  verb.add_option("model", arguments.model, "Hugging Face folder or .gguf file")->required();
  verb.add_option("-n,--tokens", arguments.options.max_tokens, "Tokens to generate at most")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 30))
      ->capture_default_str();
  verb.add_option("--temperature", sampler.temperature, "0: always the likeliest token")
      ->capture_default_str();
  verb.add_option("--top-k", sampler.top_k, "Only the k likeliest tokens; 0: all")
      ->capture_default_str();
  verb.add_option("--top-p", sampler.top_p,
                  "Only the likeliest tokens that together reach this probability")
      ->capture_default_str();
  verb.add_option("--min-p", sampler.min_p, "Drop tokens this much less likely than the likeliest")
      ->capture_default_str();
  verb.add_option("--repeat-penalty", sampler.repetition_penalty, "Above 1: repeat less")
      ->capture_default_str();
  verb.add_option("--seed", sampler.seed, "The same seed gives the same text")
      ->capture_default_str();
  verb.add_option("--stop", arguments.options.stop_strings, "Texts that end the generation");
  verb.add_option("--context", arguments.context, "Positions to keep; 0: the model's, at most 8192")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 30));
  verb.add_option("--threads", arguments.threads, "0: one for each processor")
      ->check(CLI::Range(0, 1024));
  declare(arguments.activations, verb);
  declare(arguments.kv, verb);
}

int64_t context_for(const ModelConfig& config, const GenerationArguments& arguments) {
  if (arguments.context == 0) return std::min(config.context, kDefaultContext);
  if (arguments.context > config.context) {
    warn(fmt::format("the model was trained on {} positions; beyond them its text degrades",
                     config.context));
  }
  return arguments.context;
}

void report_speed(const GenerateResult& result) {
  fmt::print(stderr, "{} tokens at {:.1f} tokens/s, then {} at {:.1f} tokens/s; stopped: {}\n",
             result.prefilled_tokens, result.prefill_tokens_per_second(), result.tokens.size(),
             result.decode_tokens_per_second(), stop_reason_text(result.stop));
}

}  // namespace fewbits::cli
