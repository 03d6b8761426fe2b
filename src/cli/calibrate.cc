#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <span>

#include "base/error.h"
#include "base/text.h"
#include "calibrate/importance.h"
#include "calibrate/samples.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/sample_arguments.h"
#include "cli/statistics.h"
#include "files/output_file.h"
#include "pipeline/quantize.h"

namespace fewbits::cli {
namespace {

struct CalibrateArguments {
  std::string model;
  std::filesystem::path out;
  std::vector<std::filesystem::path> texts;
  SampleOptions samples;
  bool sensitivity = false;
  int threads = 0;
  bool json = false;
};

/// Which experts have seen too little, one line each.
std::vector<std::string> coverage_warnings(const Importance& importance) {
  std::vector<std::string> warnings;
  for (const StarvedExpert& starved : starved_experts(importance)) {
    warnings.push_back(
        fmt::format("{}: only {} tokens went to expert {}; more text, of more kinds, "
                    "would reach it",
                    starved.weight, starved.tokens, starved.expert));
  }
  return warnings;
}

void write_report(const Json& report, const std::filesystem::path& path) {
  const std::string text = report.dump(1) + "\n";
  OutputFile file(path, std::ssize(text));
  file.append(std::as_bytes(std::span(text)));
  file.commit();
}

void report_sensitivity(const CalibrateArguments& arguments, const Model& model) {
  if (arguments.out.extension() != ".json") {
    throw Error(fmt::format("{}: a report of sensitivities is JSON; give it a name in .json",
                            arguments.out.string()));
  }
  ThreadPool pool(arguments.threads);
  const SensitivityReport report =
      measure_sensitivities(model, arguments.texts, arguments.samples, pool);
  const Json json = to_json(report);
  write_report(json, arguments.out);
  if (arguments.json) return print_json(json);
  print(sensitivity_table(report));
}

/// The output may also be named last, where it looks like one text more.
void settle(CalibrateArguments& arguments) {
  if (!arguments.out.empty()) return;
  const auto last = arguments.texts.back().extension();
  if (arguments.texts.size() == 1 || (last != ".gguf" && last != ".json"))
    throw Error("out is required (see fewbits calibrate --help)");
  arguments.out = arguments.texts.back();
  arguments.texts.pop_back();
}

void calibrate(CalibrateArguments& arguments) {
  const Stopwatch clock;
  settle(arguments);
  if (!arguments.sensitivity) check_output(arguments.model, arguments.out);
  const Model model = open_model(arguments.model);
  warn_all(model.warnings);
  fit_to_context(arguments.samples, model);
  if (arguments.sensitivity) return report_sensitivity(arguments, model);
  const auto samples = take_samples(model, arguments.texts, arguments.samples);
  ThreadPool pool(arguments.threads);
  Progress progress("calibrate");
  Importance importance = gather_importance(
      model, samples, pool, [&](int64_t done, int64_t total) { progress.update(done, total, ""); });
  for (const auto& text : arguments.texts) importance.texts.push_back(text.filename().string());
  write_importance(importance, arguments.out);
  progress.finish();
  const int64_t tokens = std::ssize(samples) * importance.sample_length;
  warn_all(coverage_warnings(importance));
  if (arguments.json) {
    return print_json({{"matrices", importance.entries.size()},
                       {"starved_experts", starved_experts(importance).size()},
                       {"samples", std::ssize(samples)},
                       {"tokens", tokens},
                       {"seconds", clock.seconds()},
                       {"peak_memory_bytes", peak_memory_bytes()}});
  }
  print(fmt::format("{}: importance of {} matrices from {} tokens, {:.1f} s, peak memory {}\n",
                    arguments.out.string(), importance.entries.size(), tokens, clock.seconds(),
                    human_bytes(peak_memory_bytes())));
}

}  // namespace

void add_calibrate(CLI::App& app) {
  const auto arguments = std::make_shared<CalibrateArguments>();
  CLI::App* verb =
      app.add_subcommand("calibrate",
                         "Gather how much each input of a model's matrices matters, as llama.cpp's "
                         "imatrix files say it");
  verb->add_option("model", arguments->model, "Hugging Face folder or .gguf file")->required();
  verb->add_option("out", arguments->out, ".gguf file to write (.json with --sensitivity)");
  verb->add_option("--text", arguments->texts, "Text files that the model reads")->required();
  add_sample_options(*verb, arguments->samples, "Samples of the text");
  verb->add_flag("--sensitivity", arguments->sensitivity,
                 "Measure instead how much the model's predictions lose by each matrix; OUT is a "
                 ".json that quantize --size takes. A few samples are enough, and take long");
  verb->add_option("--threads", arguments->threads, "0: one for each processor")
      ->check(CLI::Range(0, 1024));
  verb->add_flag("--json", arguments->json, "Print the facts as JSON");
  verb->callback([arguments] { calibrate(*arguments); });
}

}  // namespace fewbits::cli
