#include "pipeline/tune.h"

#include <fmt/format.h>

#include <filesystem>
#include <memory>

#include "base/error.h"
#include "base/text.h"
#include "calibrate/samples.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/sample_arguments.h"
#include "files/file_hash.h"
#include "pipeline/certificate.h"

namespace fewbits::cli {
namespace {

struct TuneArguments {
  std::string model, out, against;
  std::vector<std::filesystem::path> texts;
  SampleOptions samples;
  TuneOptions options;
  int threads = 0;
  bool json = false;
};

Json recipe_of(const TuneArguments& arguments) {
  return {{"tune",
           {{"texts", to_json(hash_files(arguments.texts, [](int64_t) {}))},
            {"samples", arguments.samples.count},
            {"sample_length", arguments.samples.length},
            {"learning_rate", arguments.options.learning_rate},
            {"epochs", arguments.options.epochs},
            {"batch", arguments.options.batch}}}};
}

std::vector<FileHash> hash_sources(const TuneArguments& arguments) {
  std::vector<std::filesystem::path> files = checkpoint_files(arguments.model);
  for (const auto& file : checkpoint_files(arguments.against)) files.push_back(file);
  return hash_files(files, [](int64_t) {});
}

void tune(const TuneArguments& arguments) {
  const Stopwatch clock;
  check_output(arguments.model, arguments.out);
  const Model model = open_model(arguments.model), reference = open_model(arguments.against);
  warn_all(model.warnings);
  if (const std::string reason = why_not_tunable(model, reference); !reason.empty()) {
    throw Error(fmt::format("{}: cannot be tuned after {}: {}", arguments.model, arguments.against,
                            reason));
  }
  const auto samples = take_samples(model.tokenizer, arguments.texts, arguments.samples);
  QuantizePlan plan = plan_copy(model);
  add_certificate(plan, hash_sources(arguments), recipe_of(arguments), false);
  ThreadPool pool(arguments.threads);
  Tuner tuner(model, reference, pool);
  Progress progress("tune");
  const TuneResult tuned = tuner.run(samples, arguments.options, [&](const TuneProgress& now) {
    progress.update(now.step, now.steps, fmt::format("KL divergence {:.4f}", now.divergence));
  });
  QuantizeRun run;
  run.encoder = [&](const PlannedWeight& planned) { return tuner.encoded(*planned.weight); };
  run_quantize(model, plan, run, arguments.out, pool);
  progress.finish();
  if (arguments.json) {
    return print_json({{"kl_before", tuned.before},
                       {"kl_after", tuned.after},
                       {"steps", tuned.steps},
                       {"tokens", tuned.tokens},
                       {"seconds", clock.seconds()},
                       {"peak_memory_bytes", peak_memory_bytes()}});
  }
  print(fmt::format(
      "{}: KL divergence on text held out {:.4f} -> {:.4f}, {} tokens, {:.1f} s, peak memory {}\n",
      arguments.out, tuned.before, tuned.after, tuned.tokens, clock.seconds(),
      human_bytes(peak_memory_bytes())));
}

}  // namespace

void add_tune(CLI::App& app) {
  const auto arguments = std::make_shared<TuneArguments>();
  CLI::App* verb = app.add_subcommand(
      "tune", "Train a quantized model's scales to predict as the model it was made from");
  verb->add_option("model", arguments->model, "Quantized .gguf file")->required();
  verb->add_option("out", arguments->out, ".gguf file to write")->required();
  verb->add_option("--against", arguments->against, "The model it was made from")->required();
  verb->add_option("--text", arguments->texts, "Text files to learn from")->required();
  add_sample_options(*verb, arguments->samples, "Samples of the text");
  verb->add_option("--epochs", arguments->options.epochs, "Times that each sample is read")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  verb->add_option("--batch", arguments->options.batch, "Samples in a step")
      ->check(CLI::Range(1, 1 << 10))
      ->capture_default_str();
  verb->add_option("--rate", arguments->options.learning_rate, "Learning rate of log scales")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  verb->add_option("--threads", arguments->threads, "0: one for each processor")
      ->check(CLI::Range(0, 1024));
  verb->add_flag("--json", arguments->json, "Print the facts as JSON");
  verb->callback([arguments] { tune(*arguments); });
}

}  // namespace fewbits::cli
