#include "cli/quantize_command.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <optional>

#include "base/error.h"
#include "base/interrupt.h"
#include "base/memory.h"
#include "base/text.h"
#include "base/version.h"
#include "calibrate/samples.h"
#include "cli/console.h"
#include "cli/measured_loss.h"
#include "cli/needs.h"
#include "cli/quantize_bar.h"
#include "cli/sample_arguments.h"
#include "cli/source_hashes.h"
#include "cli/statistics.h"
#include "cli/transform_choice.h"
#include "files/gguf_split.h"
#include "files/journal.h"
#include "pipeline/calibrated_encoder.h"
#include "pipeline/certificate.h"
#include "pipeline/model_folder.h"
#include "pipeline/preflight.h"
#include "pipeline/sensitivity.h"

namespace fewbits::cli {
namespace {

/// At most `most` of them, from all parts of the text.
std::vector<std::vector<Token>> spread_samples(const std::vector<std::vector<Token>>& samples,
                                               int64_t most) {
  const int64_t count = std::ssize(samples), taken = std::min(count, most);
  std::vector<std::vector<Token>> some;
  for (int64_t i = 0; i < taken; ++i)
    some.push_back(samples[static_cast<size_t>(i * count / taken)]);
  return some;
}

/// Chooses the formats of the layers' matrices by what they cost in predictions, so that the file
/// has the wanted size.
void choose_formats(const QuantizeArguments& arguments, const Model& model, int64_t bytes,
                    ThreadPool& pool, QuantizePlan& plan) {
  constexpr int64_t kProbes = 2;
  // The certificate names the formats: with others it may be a little longer.
  constexpr int64_t kLongerNames = 8;
  const int64_t most = bytes - kLongerNames * std::ssize(plan.weights);
  SampleOptions probes = arguments.samples;
  probes.count = kProbes;
  SensitivityReport report = arguments.sensitivity.empty()
                                 ? measure_sensitivities(model, arguments.calibrate, probes, pool)
                                 : sensitivity_for(arguments.sensitivity, model);
  const Rounding rounding = arguments.calibrated() ? Rounding::kFitted : Rounding::kNearest;
  fit_to_size(plan, report.matrices, rounding, most);
  if (arguments.effort < kMeasuredAgain) return;
  measure_again(report, model, plan, arguments.calibrate, arguments.samples.seed, pool);
  fit_to_size(plan, report.matrices, rounding, most);
}

Json to_json(const QuantizeResult& result) {
  Json json = {{"bytes_in", result.bytes_in},
               {"bytes_out", result.bytes_out},
               {"bits_per_weight", result.bits_per_weight},
               {"relative_error", result.relative_error}};
  Json& tensors = json["tensors"] = Json::array();
  for (const TensorError& tensor : result.tensors) {
    tensors.push_back({{"name", tensor.name},
                       {"format", std::string(tensor.format->name)},
                       {"bytes", tensor.bytes},
                       {"relative_error", tensor.relative_error}});
  }
  return json;
}

/// `memory`: what that took.
Model open_counted(const QuantizeArguments& arguments, int64_t& memory) {
  const int64_t before = resident_memory_bytes();
  Model model = open_model(arguments.in, arguments.lora);
  memory = resident_memory_bytes() - before;
  return model;
}

FolderTarget folder_target(const QuantizeArguments& arguments, const Layout& layout) {
  FolderTarget target = arguments.folder.target(arguments.out, layout);
  target.certificate = arguments.certificate;
  if (!arguments.split.empty()) target.shard_bytes = parse_bytes("--split", arguments.split);
  return target;
}

/// What tells a file apart where it is not hashed.
Json stamp_of(const std::filesystem::path& file) {
  std::error_code ignored;
  const auto changed = std::filesystem::last_write_time(file, ignored).time_since_epoch().count();
  return {{"name", file.filename().string()},
          {"bytes", std::filesystem::file_size(file, ignored)},
          {"changed", changed}};
}

/// One run of the verb, step by step: what can be refused is refused before the first long one.
class QuantizeCommand {
 public:
  explicit QuantizeCommand(QuantizeArguments& arguments)
      : arguments_(arguments),
        size_(settle_size(arguments)),
        folder_(settle_layout(arguments)),
        model_(open_counted(arguments, opened_memory_)),
        pool_(arguments.threads),
        edits_(model_, pool_) {
    warn_all(model_.warnings);
    if (arguments_.calibrated() || smooths()) take_calibration_samples();
    transform();
    if (!arguments_.calibrated()) samples_.clear();
    plan_ = plan_quantize(model_, arguments.options);
    warn_all(plan_.warnings);
    if (!arguments_.importance.empty()) {
      importance_ = importance_for(arguments_.importance, model_, plan_);
    }
    if (folder_ == nullptr) calibration_.scaling = arguments_.scaling();
    calibration_.correct_biases = folder_ == nullptr && arguments_.correct_biases;
    calibration_.sort_columns = arguments_.folder.act_order;
    calibration_.streams.follow_outputs =
        arguments_.aim == "outputs" && !calibration_.sort_columns && !calibration_.correct_biases;
    if (folder_ != nullptr) {
      arguments_.folder.observe(*folder_, format_named(arguments_.options.emulate),
                                calibration_.streams);
    }
    settle_learning();
  }

  void run() {
    look_ahead();
    describe();
    write_as_described();
  }

  /// The same, where the output is none that an equal command has finished.
  TuneOrigin run_unless_done() {
    look_ahead();
    describe();
    if (arguments_.restart || !is_done()) write_as_described();
    return {source_, recipe_};
  }

 private:
  /// Not where nothing is written: it takes long, and changes no size.
  bool smooths() const {
    return arguments_.transforms.options.smooth.has_value() && !arguments_.dry_run;
  }

  /// From here on the model is the transformed one.
  void transform() {
    if (!arguments_.transforms.any()) return;
    constexpr int64_t kMostSmoothingSamples = 32;
    TransformOptions options = arguments_.transforms.options;
    LargestInputs largest;
    if (smooths()) {
      largest = largest_inputs(model_, spread_samples(samples_, kMostSmoothingSamples), pool_);
    } else {
      options.smooth.reset();
    }
    edit_model(edits_, options, largest);
    warn_all(edits_.notes());
  }

  void describe() {
    if (arguments_.dry_run) return;
    recipe_ = recipe_of(arguments_);
    hash();
  }

  bool is_done() const {
    if (source_.empty() || !std::filesystem::exists(arguments_.out)) return false;
    const std::optional<Json> found = certificate_of(open_model(arguments_.out));
    return found && found->value("recipe", Json()) == recipe_ &&
           found->value("source", Json()) == fewbits::to_json(source_);
  }

  void write_as_described() {
    choose();
    if (arguments_.dry_run) return print_plan();
    take_up();
    if (!arguments_.certify.empty()) warn_of_overlap(recipe_, "--certify", arguments_.certify);
    report(write());
  }

  void settle_learning() {
    if (arguments_.learn == 0) return;
    if (!arguments_.calibrated()) throw Error("--learn: learns from text; give --calibrate TEXT");
    if (arguments_.folder.act_order) throw Error("--learn: not with --act-order");
    const std::string reason = why_not_learnable(model_);
    if (reason.empty()) {
      calibration_.learning.steps = arguments_.learn;
    } else {
      warn(fmt::format("--learn: not for this model, {}; it is rounded by GPTQ", reason));
    }
  }

  void take_calibration_samples() {
    SampleOptions& wanted = arguments_.samples;
    fit_to_context(wanted, model_);
    samples_ = take_samples(model_, arguments_.calibrate, wanted);
    if (std::ssize(samples_) < wanted.count) {
      warn(
          fmt::format("calibration text: it has {} samples of {} tokens, {} were wanted; more text "
                      "makes a better model",
                      samples_.size(), wanted.length, wanted.count));
    }
  }

  RunRequest request() const {
    RunRequest request{.model = model_,
                       .plan = plan_,
                       .out = arguments_.out,
                       .samples = samples_,
                       .calibration = calibration_,
                       .search = search()};
    request.writes_folder = folder_ != nullptr;
    request.opened_memory = opened_memory_;
    request.edits_memory = edits_.memory();
    request.hashes_source = arguments_.certificate;
    request.loads_model = size_.given() && arguments_.sensitivity.empty();
    request.certifies = !arguments_.certify.empty();
    if (!arguments_.memory.empty()) {
      request.memory_limit = parse_bytes("--memory", arguments_.memory);
    }
    return request;
  }

  Search search() const {
    if (arguments_.search == "robust") return Search::kRobust;
    return arguments_.search == "none" ? Search::kReference : Search::kBest;
  }

  /// What the run will take, and whether it can work at all.
  void look_ahead() {
    needs_ = run_needs(request(), pool_);
    if (needs_.memory > needs_.memory_limit && calibration_.streams.follow_outputs) {
      warn(fmt::format("{} of memory would be needed to aim at outputs: --aim weights",
                       human_bytes(needs_.memory)));
      calibration_.streams.follow_outputs = false;
      needs_ = run_needs(request(), pool_);
    }
    if (!arguments_.dry_run) refuse_impossible(needs_, request());
    if (needs_.spilled > 0) {
      calibration_.streams.spill = std::filesystem::absolute(arguments_.out).parent_path();
    }
  }

  void hash() {
    if (!arguments_.certificate) return;
    source_ = hash_models({arguments_.in});
    certify();
  }

  void certify() {
    if (source_.empty()) return;
    add_certificate(plan_, source_, recipe_, !arguments_.certify.empty());
  }

  void choose() {
    if (!size_.given()) return;
    stop_within_a_second("fewbits: interrupted; nothing is kept of choosing formats");
    choose_formats(arguments_, model_, size_.bytes(model_.parameters()), pool_, plan_);
    certify();
    look_ahead();
  }

  /// Locks the output, and finds what an earlier run has done for it.
  void take_up() {
    journal_.emplace(arguments_.out);
    Json source = Json::array();
    if (source_.empty()) {
      for (const auto& file : checkpoint_files(arguments_.in)) source.push_back(stamp_of(file));
    } else {
      source = fewbits::to_json(source_);
    }
    Json identity = {{"version", std::string(program_version())},
                     {"source", source},
                     {"recipe", recipe_},
                     {"certify", arguments_.certify},
                     {"split", arguments_.split},
                     {"layout", folder_ != nullptr ? std::string(folder_->name) : "gguf"},
                     {"formats", plan_json(plan_)}};
    journal_->identify(identity, arguments_.restart);
    if (journal_->records().empty()) remove_left_beside(arguments_.out);
    stop_within_a_second(fmt::format("fewbits: interrupted; what is done is kept: {}", kGoesOn));
  }

  void print_plan() const {
    if (arguments_.json) {
      print_json({{"bytes_out", plan_.bytes_out},
                  {"estimate", needs_json(needs_)},
                  {"tensors", plan_json(plan_)}});
    } else {
      print(formats_table(plan_) + needs_table(needs_));
    }
  }

  QuantizeResult write() {
    const double learned =
        samples_.empty() ? 0
                         : learning_operations(std::ssize(samples_.front()), calibration_.learning);
    QuantizeBar progress(plan_, arguments_.calibrated(), learned);
    QuantizeRun run;
    run.search = search();
    run.progress = [&](int64_t done, int64_t total, const std::string& tensor) {
      progress.bytes(done, total, tensor);
    };
    run.read_back = [&](int64_t done, int64_t total, const std::string& tensor) {
      progress.read_back(done, total, tensor);
    };
    calibration_.progress = [&](const Weight& weight, double error) {
      progress.matrix(weight, error);
    };
    calibration_.streams.waiting = [&] { progress.wait(); };
    calibration_.learning_progress = [&](int64_t layer, int64_t step, double loss) {
      const auto steps = static_cast<double>(calibration_.learning.steps);
      progress.learning(layer, static_cast<double>(step + 1) / steps, loss);
    };
    calibration_.learned = [&](int64_t layer, const LearnedLayer& learned) {
      if (!learned.warning.empty()) {
        warn(fmt::format("--learn: layer {} stays as GPTQ rounded it: {}", layer, learned.warning));
      }
    };
    if (importance_) run.importance = &*importance_;
    if (!arguments_.certify.empty()) {
      run.measure = [&](const std::filesystem::path& file) {
        progress.finish();
        return measure_loss(model_, file, arguments_.certify, pool_);
      };
    }
    std::optional<CalibratedEncoder> calibrated;
    if (arguments_.calibrated()) {
      calibrated.emplace(model_, plan_, std::move(samples_), calibration_, pool_);
      run.encoder = [&](const PlannedWeight& planned) { return calibrated->encode(planned); };
      run.sorts_columns = calibration_.sort_columns;
      run.restore = [&](int64_t layer, const RoundedBefore& before) {
        progress.restored(layer);
        calibrated->restore_layer(layer, before);
      };
    }
    run.journal = &*journal_;
    run.verify = arguments_.verify;
    if (!arguments_.split.empty()) run.file_bytes = parse_bytes("--split", arguments_.split);
    QuantizeResult result =
        folder_ != nullptr
            ? write_model_folder(model_, plan_, run, folder_target(arguments_, *folder_), pool_)
            : run_quantize(model_, plan_, run, arguments_.out, pool_);
    progress.finish();
    if (calibrated) warn_all(calibrated->warnings());
    return result;
  }

  void report(const QuantizeResult& result) const {
    const RunFacts facts{clock_.seconds(), peak_memory_bytes(),
                         result.bytes_out + result.bytes_aside + needs_.spilled};
    if (arguments_.stage && arguments_.json) return;
    if (arguments_.json) {
      Json json = to_json(result);
      json["seconds"] = facts.seconds;
      json["peak_memory_bytes"] = facts.memory;
      json["disk_bytes"] = facts.disk;
      json["estimate"] = needs_json(needs_);
      return print_json(json);
    }
    if (result.files > 1) {
      print(fmt::format("{} is the first of {} files\n",
                        split_name(arguments_.out, 0, result.files).string(), result.files));
    }
    print(fmt::format("{}: {} -> {} ({:.2f} bits per weight), relative error {:.2e}\n{}",
                      arguments_.out, human_bytes(result.bytes_in), human_bytes(result.bytes_out),
                      result.bits_per_weight, result.relative_error,
                      estimate_and_fact(needs_, facts)));
  }

  Stopwatch clock_;
  QuantizeArguments& arguments_;
  WantedSize size_;
  const Layout* folder_;       ///< of the model folder that is written; null: a GGUF is
  int64_t opened_memory_ = 0;  ///< what opening the model took
  Model model_;
  ThreadPool pool_;
  ModelEdits edits_;  ///< of model_
  QuantizePlan plan_;
  std::optional<Importance> importance_;
  std::vector<std::vector<Token>> samples_;
  CalibrationOptions calibration_;
  std::vector<FileHash> source_;
  Json recipe_;  ///< texts and adapters hashed in it, once
  std::optional<Journal> journal_;
  RunNeeds needs_;
};

}  // namespace

void run_quantize_command(QuantizeArguments& arguments) {
  QuantizeCommand(arguments).run();
}

TuneOrigin run_quantize_command_once(QuantizeArguments& arguments) {
  return QuantizeCommand(arguments).run_unless_done();
}

}  // namespace fewbits::cli
