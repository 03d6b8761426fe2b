#include "pipeline/transform.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <memory>

#include "base/error.h"
#include "base/memory.h"
#include "base/text.h"
#include "calibrate/samples.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/sample_arguments.h"
#include "cli/source_hashes.h"
#include "cli/transform_choice.h"
#include "cli/wanted_size.h"
#include "pipeline/certificate.h"
#include "pipeline/model_folder.h"
#include "pipeline/preflight.h"

namespace fewbits::cli {
namespace {

struct TransformArguments {
  std::string model, out, memory;
  TransformChoice transforms;
  std::vector<std::filesystem::path> texts;
  SampleOptions samples = {.count = 32};
  int threads = 0;
  bool verify = true;
  bool json = false;
};

void settle(TransformArguments& arguments) {
  arguments.transforms.settle();
  if (arguments.transforms.options.smooth && arguments.texts.empty()) {
    throw Error("--smooth needs to see activations: give --text FILE...");
  }
  if (names_folder(arguments.out)) {
    check_folder_output(arguments.model, arguments.out);
  } else {
    check_output(arguments.model, arguments.out);
  }
}

Json recipe_of(const TransformArguments& arguments) {
  Json recipe = recipe_of(arguments.transforms.options);
  if (!arguments.transforms.options.smooth) return recipe;
  recipe["transform"].update(describe_samples(arguments.texts, arguments.samples));
  return recipe;
}

/// Before anything is written.
void refuse_too_little_memory(const TransformArguments& arguments, int64_t edits,
                              const QuantizePlan& plan, int threads) {
  const int64_t limit =
      arguments.memory.empty() ? default_memory_limit() : parse_bytes("--memory", arguments.memory);
  const int64_t needed = resident_memory_bytes() + edits + encoding_memory(plan, threads);
  if (needed <= limit) return;
  throw Error(fmt::format("{}: {} of memory are needed, {} may be used; allow that much (--memory)",
                          arguments.out, human_bytes(needed), human_bytes(limit)));
}

void report(const TransformArguments& arguments, const QuantizeResult& result, double seconds) {
  if (arguments.json) {
    return print_json({{"bytes_in", result.bytes_in},
                       {"bytes_out", result.bytes_out},
                       {"relative_error", result.relative_error},
                       {"seconds", seconds},
                       {"peak_memory_bytes", peak_memory_bytes()}});
  }
  print(fmt::format("{}: {}, {:.1f} s, peak memory {}\n", arguments.out,
                    human_bytes(result.bytes_out), seconds, human_bytes(peak_memory_bytes())));
}

void transform(TransformArguments& arguments) {
  const Stopwatch clock;
  return_freed_memory();
  settle(arguments);
  Model model = open_model(arguments.model);
  warn_all(model.warnings);
  ThreadPool pool(arguments.threads);
  const TransformOptions& options = arguments.transforms.options;
  LargestInputs largest;
  if (options.smooth) {
    fit_to_context(arguments.samples, model);
    largest = largest_inputs(model, take_samples(model, arguments.texts, arguments.samples), pool);
  }
  ModelEdits edits(model, pool);
  edit_model(edits, options, largest);
  warn_all(edits.notes());
  QuantizePlan plan = plan_transform(model, options, names_folder(arguments.out));
  warn_all(plan.warnings);
  refuse_too_little_memory(arguments, edits.memory(), plan, pool.threads());
  add_certificate(plan, hash_models({arguments.model}), recipe_of(arguments), false);
  Progress progress("write", Progress::Unit::kBytes);
  QuantizeRun run;
  run.verify = arguments.verify;
  run.progress = [&](int64_t done, int64_t total, const std::string& tensor) {
    progress.update(done, total, tensor);
  };
  const QuantizeResult result = write_transformed(model, plan, run, arguments.out, pool);
  progress.finish();
  report(arguments, result, clock.seconds());
}

}  // namespace

void add_transform(CLI::App& app) {
  const auto arguments = std::make_shared<TransformArguments>();
  CLI::App* verb = app.add_subcommand(
      "transform", "Change a model's weights, but not its function, so that it quantizes better");
  verb->add_option("model", arguments->model, "Hugging Face folder or .gguf file")->required();
  verb->add_option("out", arguments->out, ".gguf file or folder to write")->required();
  declare(arguments->transforms, *verb);
  verb->add_option("--text", arguments->texts, "Text files that show the activations for --smooth");
  add_sample_options(*verb, arguments->samples, "Samples of the text");
  verb->add_option("--type", arguments->transforms.options.type,
                   "F32, F16 or BF16 (default: as each tensor is stored)");
  verb->add_option("--memory", arguments->memory,
                   "Most memory to use, as in 8G (default: 60 % of what is free)");
  verb->add_option("--threads", arguments->threads, "0: one for each processor")
      ->check(CLI::Range(0, 1024));
  verb->add_flag("!--no-verify", arguments->verify, "Do not read back what was written");
  verb->add_flag("--json", arguments->json, "Print the facts as JSON");
  verb->callback([arguments] { transform(*arguments); });
}

}  // namespace fewbits::cli
