#include "pipeline/tune.h"

#include <fmt/format.h>

#include <cstdio>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/interrupt.h"
#include "base/memory.h"
#include "base/sha256.h"
#include "base/text.h"
#include "base/version.h"
#include "calibrate/samples.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/measured_loss.h"
#include "cli/sample_arguments.h"
#include "cli/source_hashes.h"
#include "cli/tuning.h"
#include "cli/wanted_size.h"
#include "files/file_hash.h"
#include "files/journal.h"
#include "files/output_file.h"
#include "kernels/kernel_table.h"
#include "pipeline/certificate.h"
#include "pipeline/preflight.h"
#include "pipeline/tuning_checkpoint.h"

namespace fewbits::cli {
namespace {

constexpr int64_t kManyEpochs = 1000;  // where the time says when to stop

/// What was asked for when the file that is tuned was made, where it says so.
Json earlier_recipe(const std::string& path) {
  const Model model = open_model(path);
  const std::optional<Json> certificate = certificate_of(model);
  return certificate ? certificate->value("recipe", Json()) : Json();
}

/// `clock` and `checkpoint` are referred to.
TuneOptions options_of(const TuneArguments& arguments, const Stopwatch& clock,
                       TuningCheckpoint& checkpoint) {
  TuneOptions options = arguments.options;
  options.load = [&](TuningState& state) { return checkpoint.load(state); };
  options.save = [&](const TuningState& state) { checkpoint.save_if_due(state, clock.seconds()); };
  if (arguments.time.empty()) return options;
  options.epochs = kManyEpochs;
  options.time_over = [seconds = parse_seconds("--time", arguments.time), &clock, &checkpoint] {
    return (checkpoint.seconds_before() + clock.seconds()) / seconds;
  };
  return options;
}

Json identity_of(const TuneArguments& arguments, const TuneOrigin& origin) {
  return {{"version", std::string(program_version())},
          {"source", to_json(origin.source)},
          {"recipe", origin.recipe},
          {"certify", arguments.certify},
          {"instruction_set", kernels().name}};
}

/// "" where there is enough.
std::string too_much_memory(const TuneArguments& arguments, const Model& model, int64_t length) {
  const int64_t needed = tuning_memory(model, length);
  const int64_t most =
      arguments.memory.empty() ? default_memory_limit() : parse_bytes("--memory", arguments.memory);
  if (needed <= most) return "";
  return fmt::format(
      "tuning needs {} of memory, {} may be used; allow that much (--memory), or take shorter "
      "samples (--sample-length)",
      human_bytes(needed), human_bytes(most));
}

TuneResult run_tuner(Tuner& tuner, const std::vector<std::vector<Token>>& samples,
                     const TuneOptions& options) {
  Progress progress("tune");
  const TuneResult result = tuner.run(samples, options, [&](const TuneProgress& now) {
    constexpr int64_t kParts = 1000;
    const std::string detail = fmt::format("KL divergence {:.4f}", now.divergence);
    if (!options.time_over) return progress.update(now.step, now.steps, detail);
    progress.update(static_cast<int64_t>(kParts * options.time_over()), kParts, detail);
  });
  progress.finish();
  return result;
}

/// Runs `work` with a checkpoint beside the output, which stays where the run is stopped.
TuneResult tune_or_go_on(const TuneArguments& arguments, const TuneOrigin& origin,
                         const Stopwatch& clock,
                         const std::function<TuneResult(const TuneOptions&)>& work) {
  const Json identity = identity_of(arguments, origin);
  Journal journal(arguments.out);
  journal.identify(identity, arguments.restart);
  // Without hashes nobody knows whether the model is still the same.
  if (arguments.restart || origin.source.empty()) remove_left_beside(arguments.out);
  const std::string text = identity.dump();
  TuningCheckpoint checkpoint(arguments.out, sha256(std::as_bytes(std::span(text))));
  stop_within_a_second(fmt::format("fewbits: interrupted; what was tuned is kept: {}", kGoesOn));
  const auto kept = [&](std::string_view message) {
    if (!checkpoint.keep()) return fmt::format("{}; nothing was kept", message);
    journal.keep();
    return fmt::format("{}; what was tuned is kept: {}", message, kGoesOn);
  };
  try {
    return work(options_of(arguments, clock, checkpoint));
  } catch (const Interrupted& error) {
    throw Interrupted(kept(error.what()));
  } catch (const DiskError& error) {
    throw DiskError(kept(error.what()));
  }
}

void tune_alone(const TuneArguments& arguments) {
  Json recipe = earlier_recipe(arguments.model);
  if (!recipe.is_object()) recipe = Json::object();
  recipe["tune"] = describe(arguments);
  tune(arguments, {hash_models({arguments.model, arguments.against}), std::move(recipe)});
}

}  // namespace

double parse_seconds(std::string_view option, const std::string& text) {
  double number = 0;
  char unit = 0, rest = 0;
  const int fields = std::sscanf(text.c_str(), "%lf%c%c", &number, &unit, &rest);
  const double factor = unit == 's' ? 1 : unit == 'm' ? 60 : unit == 'h' ? 3600 : 0;
  if (fields == 2 && number > 0 && factor > 0) return number * factor;
  throw Error(fmt::format("{}: '{}' is no time; give 90s, 45m or 8h", option, text));
}

std::string why_not_tuned_later(const TuneArguments& arguments, const SampleOptions& samples) {
  const Model reference = open_model(arguments.against);
  if (std::string reason = why_never_tunable(reference); !reason.empty()) return reason;
  SampleOptions wanted = samples;
  if (reference.config.context > 0)
    wanted.length = std::min(wanted.length, reference.config.context);
  if (std::string reason = too_much_memory(arguments, reference, wanted.length); !reason.empty())
    return reason;
  if (std::ssize(take_samples(reference, arguments.texts, wanted)) > 1) return "";
  return "one sample alone cannot be held out as well; give more text";
}

Json describe(const TuneArguments& arguments) {
  Json json = describe_samples(arguments.texts, arguments.samples);
  json["learning_rate"] = arguments.options.learning_rate;
  json["epochs"] = arguments.options.epochs;
  json["batch"] = arguments.options.batch;
  if (!arguments.time.empty()) json["time"] = arguments.time;
  return json;
}

void tune(const TuneArguments& arguments, const TuneOrigin& origin) {
  return_freed_memory();
  const Stopwatch clock;
  check_output(arguments.model, arguments.out);
  const Model model = open_model(arguments.model), reference = open_model(arguments.against);
  warn_all(model.warnings);
  if (const std::string reason = why_not_tunable(model, reference); !reason.empty()) {
    throw Error(fmt::format("{}: cannot be tuned after {}: {}", arguments.model, arguments.against,
                            reason));
  }
  SampleOptions wanted = arguments.samples;
  fit_to_context(wanted, model);
  if (const std::string reason = too_much_memory(arguments, model, wanted.length);
      !reason.empty()) {
    throw Error(fmt::format("{}: {}", arguments.out, reason));
  }
  const auto samples = take_samples(model, arguments.texts, wanted);
  QuantizePlan plan = plan_copy(model);
  if (!origin.source.empty()) {
    add_certificate(plan, origin.source, origin.recipe, !arguments.certify.empty());
  }
  if (!arguments.certify.empty()) {
    warn_of_overlap(origin.recipe, "--certify", arguments.certify);
  }
  ThreadPool pool(arguments.threads);
  const TuneResult tuned = tune_or_go_on(arguments, origin, clock, [&](const TuneOptions& options) {
    Tuner tuner(model, reference, pool);
    const TuneResult result = run_tuner(tuner, samples, options);
    QuantizeRun run;
    run.encoder = [&](const PlannedWeight& planned) { return tuner.encoded(*planned.weight); };
    if (!arguments.certify.empty()) {
      run.measure = [&](const std::filesystem::path& file) {
        return measure_loss(reference, file, arguments.certify, pool);
      };
    }
    run_quantize(model, plan, run, arguments.out, pool);
    return result;
  });
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
  verb->add_option(
      "--time", arguments->time,
      "As long as this at most, as in 90s, 45m or 8h: the text is read again until then");
  verb->add_option("--memory", arguments->memory,
                   "Most memory to use, as in 8G (default: 60 % of what is free)");
  verb->add_option("--certify", arguments->certify,
                   "Text file: measure the loss on it, and write that into the file");
  verb->add_flag("--restart", arguments->restart,
                 "Do not go on where an interrupted run into this output stopped");
  verb->add_option("--threads", arguments->threads, "0: one for each processor")
      ->check(CLI::Range(0, 1024));
  verb->add_flag("--json", arguments->json, "Print the facts as JSON");
  verb->callback([arguments] { tune_alone(*arguments); });
}

}  // namespace fewbits::cli
