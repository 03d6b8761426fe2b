#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <memory>

#include "base/memory.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/quantize_arguments.h"
#include "cli/quantize_command.h"
#include "cli/tuning.h"

namespace fewbits::cli {
namespace {

/// The last stage of the most effort: the rounded file is kept beside the output until its scales
/// are trained.
void quantize_and_tune(const QuantizeArguments& wanted) {
  const Stopwatch clock;
  QuantizeArguments rounding = wanted;
  rounding.out = std::filesystem::path(wanted.out).replace_extension(".untuned.gguf").string();
  rounding.effort = kTuned - 1;
  rounding.certify.clear();
  rounding.stage = true;
  TuneArguments tuning;
  tuning.model = rounding.out;
  tuning.out = wanted.out;
  tuning.against = wanted.in;
  tuning.texts = wanted.calibrate;
  tuning.certify = wanted.certify;
  tuning.threads = wanted.threads;
  tuning.json = wanted.json;
  tuning.time = wanted.time;
  tuning.memory = wanted.memory;
  tuning.restart = wanted.restart;
  check_output(wanted.in, wanted.out);
  if (const std::string reason = why_not_tuned_later(tuning, wanted.samples); !reason.empty()) {
    warn(fmt::format("--effort {}: scales are not tuned: {}", kTuned, reason));
    QuantizeArguments rounded = wanted;
    rounded.effort = kTuned - 1;
    rounded.time.clear();
    return run_quantize_command(rounded);
  }
  TuneOrigin origin = run_quantize_command_once(rounding);
  if (wanted.dry_run) return;
  tuning.samples = rounding.samples;  // as long as the model's context allows
  origin.recipe["tune"] = describe(tuning);
  if (!wanted.time.empty()) {
    const double left = parse_seconds("--time", wanted.time) - clock.seconds();
    tuning.time = fmt::format("{:.0f}s", std::max(1.0, left));
  }
  tune(tuning, origin);
  std::filesystem::remove(rounding.out);
}

void quantize(QuantizeArguments& arguments) {
  return_freed_memory();
  settle(arguments);
  if (arguments.effort >= kTuned) return quantize_and_tune(arguments);
  run_quantize_command(arguments);
}

}  // namespace

void add_quantize(CLI::App& app) {
  const auto arguments = std::make_shared<QuantizeArguments>();
  CLI::App* verb = app.add_subcommand("quantize", "Write a model in another number format");
  declare(*arguments, *verb);
  verb->callback([arguments] { quantize(*arguments); });
}

}  // namespace fewbits::cli
