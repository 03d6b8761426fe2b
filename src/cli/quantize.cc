#include "pipeline/quantize.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>

#include "base/error.h"
#include "base/interrupt.h"
#include "base/mapped_file.h"
#include "base/memory.h"
#include "base/text.h"
#include "base/version.h"
#include "calibrate/samples.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/folder_arguments.h"
#include "cli/measured_loss.h"
#include "cli/needs.h"
#include "cli/quantize_bar.h"
#include "cli/sample_arguments.h"
#include "cli/statistics.h"
#include "cli/tuning.h"
#include "cli/wanted_size.h"
#include "evaluate/evaluate.h"
#include "files/gguf_split.h"
#include "files/journal.h"
#include "files/layouts/layout.h"
#include "kernels/kernel_table.h"
#include "pipeline/calibrated_layers.h"
#include "pipeline/certificate.h"
#include "pipeline/mix.h"
#include "pipeline/model_folder.h"
#include "pipeline/preflight.h"
#include "pipeline/sensitivity.h"

namespace fewbits::cli {
namespace {

// What --effort buys (docs/methods.md says what it gains).
constexpr int kMeasuredAgain = 2, kTuned = 3;

struct QuantizeArguments {
  std::string in, out;
  std::string recipe;                // its options are among the others
  std::vector<std::string> tensors;  // glob=FORMAT
  std::string search = "best";
  FolderArguments folder;
  int threads = 0;
  bool json = false;
  bool dry_run = false;
  bool certificate = true;
  bool verify = true;
  std::string split;                             // most bytes of a file
  std::string lora;                              // folder
  std::string certify;                           // text to measure the loss on
  std::string size;                              // of the file at most
  std::string sensitivity;                       // file: what each matrix costs
  std::vector<std::filesystem::path> calibrate;  // texts
  std::string scale_columns = "balanced";
  bool correct_biases = false;
  SampleOptions samples;
  int64_t learn = 0;       // steps of learned rounding
  std::string importance;  // file
  std::string memory;      // at most; "": a share of what is free
  QuantizeOptions options;

  bool restart = false;

  int effort = -1;     // -1: by what is given
  std::string time;    // at most, of tuning
  bool stage = false;  // the output is not what was asked for

  bool calibrated() const { return !calibrate.empty() && effort != 0; }
};

void split_tensor_formats(QuantizeArguments& arguments) {
  for (const std::string& text : arguments.tensors) {
    const size_t equals = text.rfind('=');
    if (equals == std::string::npos || equals == 0 || equals + 1 == text.size()) {
      throw Error(
          fmt::format("--tensor: '{}' must be GLOB=FORMAT, as in 'blk.*.ffn_down*=Q6_K'", text));
    }
    arguments.options.tensor_formats.emplace_back(text.substr(0, equals), text.substr(equals + 1));
  }
}

ColumnScaling column_scaling(std::string_view name) {
  return name == "none"  ? ColumnScaling::kNone
         : name == "awq" ? ColumnScaling::kAwq
                         : ColumnScaling::kBalanced;
}

/// Chooses the formats of the layers' matrices by what they cost in predictions, so that the file
/// has the wanted size.
void choose_formats(const QuantizeArguments& arguments, const Model& model, int64_t bytes,
                    ThreadPool& pool, QuantizePlan& plan) {
  constexpr int64_t kProbes = 2;
  // The certificate names the formats: with others it may be a little longer.
  constexpr int64_t kLongerNames = 8;
  const int64_t most = bytes - kLongerNames * std::ssize(plan.weights);
  const SampleOptions probes{.count = kProbes, .length = arguments.samples.length};
  SensitivityReport report = arguments.sensitivity.empty()
                                 ? measure_sensitivities(model, arguments.calibrate, probes, pool)
                                 : sensitivity_for(arguments.sensitivity, model);
  fit_to_size(plan, report.matrices, most);
  if (arguments.effort < kMeasuredAgain) return;
  measure_again(report, model, plan, arguments.calibrate, pool);
  fit_to_size(plan, report.matrices, most);
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

/// What was asked for, as the certificate keeps it.
Json recipe_of(const QuantizeArguments& arguments) {
  const QuantizeOptions& options = arguments.options;
  Json recipe = {{"to", options.to}, {"search", arguments.search}};
  if (arguments.folder.layout.empty() || arguments.folder.layout == "gguf") {
    if (!options.emulate.empty()) recipe["emulate"] = options.emulate;
  } else {
    recipe["to"] = options.emulate;
    arguments.folder.describe(recipe);
  }
  if (arguments.effort >= 0) recipe["effort"] = arguments.effort;
  if (!arguments.size.empty()) recipe["size"] = arguments.size;
  if (!arguments.sensitivity.empty()) {
    recipe["sensitivity"] = to_json(hash_files({arguments.sensitivity}, [](int64_t) {})).front();
  }
  if (options.pure) recipe["pure"] = true;
  if (!options.output_format.empty()) recipe["output"] = options.output_format;
  if (!options.embedding_format.empty()) recipe["embedding"] = options.embedding_format;
  if (!arguments.tensors.empty()) recipe["tensor"] = arguments.tensors;
  if (!arguments.calibrate.empty()) {
    recipe["calibration"] = {{"texts", to_json(hash_files(arguments.calibrate, [](int64_t) {}))},
                             {"samples", arguments.samples.count},
                             {"sample_length", arguments.samples.length}};
    if (arguments.learn > 0) recipe["calibration"]["learn"] = arguments.learn;
    recipe["instruction_set"] = kernels().name;
    if (arguments.correct_biases) recipe["correct_biases"] = true;
    if (arguments.scale_columns != "balanced") recipe["scale_columns"] = arguments.scale_columns;
  }
  if (!arguments.lora.empty()) {
    recipe["lora"] = to_json(hash_files(checkpoint_files(arguments.lora), [](int64_t) {}));
  }
  if (!arguments.importance.empty()) {
    recipe["imatrix"] = to_json(hash_files({arguments.importance}, [](int64_t) {})).front();
  }
  return recipe;
}

/// Text that the rounding was fitted to says too little about others.
void warn_of_certifying_on_calibration(const QuantizeArguments& arguments) {
  for (const std::filesystem::path& text : arguments.calibrate) {
    if (!same_file(text, arguments.certify)) continue;
    warn(
        fmt::format("--certify {}: the model is calibrated on this text, and will look better on "
                    "it than it is",
                    arguments.certify));
  }
}

/// Reads the whole source once.
std::vector<FileHash> hash_source(const QuantizeArguments& arguments, int64_t bytes) {
  Progress progress("hashing the source", Progress::Unit::kBytes);
  int64_t done = 0;
  return hash_files(checkpoint_files(arguments.in), [&](int64_t more) {
    throw_if_interrupted();
    progress.update(done += more, bytes, "");
  });
}

/// The layout of the model folder that is written; null: a GGUF is.
const Layout* settle_layout(QuantizeArguments& arguments) {
  QuantizeOptions& options = arguments.options;
  if (!arguments.folder.wanted(arguments.out) || !options.emulate.empty()) {
    // A misspelt name is found before a large model is opened.
    if (options.emulate.empty()) mix_named(options.to);
    check_output(arguments.in, arguments.out);
    arguments.folder.refuse_outside_folders();
    return nullptr;
  }
  const Layout& layout = arguments.folder.settle(arguments.out, options.to, arguments.calibrated());
  if (!arguments.importance.empty()) throw Error("--importance: only for a .gguf; use --calibrate");
  check_folder_output(arguments.in, arguments.out);
  options.emulate = std::exchange(options.to, {});
  return &layout;
}

FolderTarget folder_target(const QuantizeArguments& arguments, const Layout& layout) {
  FolderTarget target = arguments.folder.target(arguments.out, layout);
  target.certificate = arguments.certificate;
  if (!arguments.split.empty()) target.shard_bytes = parse_bytes("--split", arguments.split);
  return target;
}

WantedSize settle_size(QuantizeArguments& arguments) {
  if (!arguments.options.emulate.empty()) return {};
  WantedSize size(arguments.size, arguments.options.to);
  if (size.given() && arguments.calibrate.empty() && arguments.sensitivity.empty()) {
    throw Error(
        "quantize: a size needs --calibrate TEXT, to measure on it what each matrix costs, or a "
        "--sensitivity FILE that says so");
  }
  if (!size.given() && !arguments.sensitivity.empty()) {
    throw Error("--sensitivity: only with a size, which formats are then chosen for");
  }
  return size;
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
        model_(open_model(arguments.in, arguments.lora)),
        plan_(plan_quantize(model_, arguments.options)),
        pool_(arguments.threads) {
    warn_all(model_.warnings);
    warn_all(plan_.warnings);
    if (!arguments_.importance.empty()) {
      importance_ = importance_for(arguments_.importance, model_, plan_);
    }
    if (folder_ == nullptr) calibration_.scaling = column_scaling(arguments_.scale_columns);
    calibration_.correct_biases = folder_ == nullptr && arguments_.correct_biases;
    calibration_.sort_columns = arguments_.folder.act_order;
    if (folder_ != nullptr) {
      arguments_.folder.observe(*folder_, format_named(arguments_.options.emulate),
                                calibration_.streams);
    }
    settle_learning();
    if (arguments_.calibrated()) {
      take_calibration_samples();
    }
  }

  void run() {
    look_ahead();
    if (arguments_.dry_run && !size_.given()) return print_plan();
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
    warn_of_certifying_on_calibration(arguments_);
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
    if (const int64_t context = model_.config.context; context > 0 && wanted.length > context) {
      warn(fmt::format(
          "--sample-length: {} tokens, but the model was made for {}: so many are taken",
          wanted.length, context));
      wanted.length = context;
    }
    samples_ = take_samples(model_.tokenizer, arguments_.calibrate, wanted);
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
    request.hashes_source = arguments_.certificate;
    request.loads_model = size_.given() && arguments_.sensitivity.empty();
    request.certifies = !arguments_.certify.empty();
    if (!arguments_.memory.empty()) {
      request.memory_limit = parse_bytes("--memory", arguments_.memory);
    }
    return request;
  }

  Search search() const { return arguments_.search == "none" ? Search::kReference : Search::kBest; }

  /// What the run will take, and whether it can work at all.
  void look_ahead() {
    needs_ = run_needs(request(), pool_);
    if (!arguments_.dry_run) refuse_impossible(needs_, request());
    if (needs_.spilled > 0) {
      calibration_.streams.spill = std::filesystem::absolute(arguments_.out).parent_path();
    }
  }

  void hash() {
    if (!arguments_.certificate) return;
    source_ = hash_source(arguments_, model_.store.file_bytes());
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
    stop_within_a_second(
        "fewbits: interrupted; what is done is kept: the same command goes on there, with "
        "--restart "
        "it begins anew");
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
      run.restore = [&](int64_t layer, const RoundedBytes& bytes) {
        progress.restored(layer);
        calibrated->restore_layer(layer, bytes);
      };
    }
    // A layer that an earlier run finished comes back without the order of its columns.
    if (!arguments_.folder.act_order) run.journal = &*journal_;
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
  const Layout* folder_;  ///< of the model folder that is written; null: a GGUF is
  Model model_;
  QuantizePlan plan_;
  std::optional<Importance> importance_;
  ThreadPool pool_;
  std::vector<std::vector<Token>> samples_;
  CalibrationOptions calibration_;
  std::vector<FileHash> source_;
  Json recipe_;  ///< texts and adapters hashed in it, once
  std::optional<Journal> journal_;
  RunNeeds needs_;
};

void settle_effort(const QuantizeArguments& arguments) {
  if (arguments.effort > 0 && arguments.calibrate.empty()) {
    throw Error(
        fmt::format("--effort {}: needs --calibrate TEXT to fit the model to", arguments.effort));
  }
  if (!arguments.time.empty() && arguments.effort < kTuned) {
    throw Error("--time: only with --effort 3, whose last stage takes what time there is");
  }
  if (!arguments.time.empty()) parse_seconds("--time", arguments.time);
  if (arguments.effort >= kTuned && (arguments.folder.wanted(arguments.out) ||
                                     !arguments.split.empty() || !arguments.lora.empty())) {
    throw Error("--effort 3: only into one .gguf of a model without adapters");
  }
}

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
  tuning.samples = wanted.samples;
  tuning.certify = wanted.certify;
  tuning.threads = wanted.threads;
  tuning.json = wanted.json;
  tuning.time = wanted.time;
  check_output(wanted.in, wanted.out);
  TuneOrigin origin = QuantizeCommand(rounding).run_unless_done();
  if (wanted.dry_run) return;
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
  settle_effort(arguments);
  split_tensor_formats(arguments);
  arguments.options.weighted = !arguments.importance.empty() || arguments.calibrated();
  if (arguments.effort >= kTuned) return quantize_and_tune(arguments);
  QuantizeCommand(arguments).run();
}

std::string mix_names() {
  std::vector<std::string> names;
  for (const Mix& mix : mixes()) names.emplace_back(mix.name);
  return join(names);
}

}  // namespace

void add_quantize(CLI::App& app) {
  const auto arguments = std::make_shared<QuantizeArguments>();
  CLI::App* verb = app.add_subcommand("quantize", "Write a model in another number format");
  verb->add_option("model", arguments->in, "Hugging Face folder or .gguf file")->required();
  verb->add_option("out", arguments->out, ".gguf file, or model folder, to write")->required();
  verb->add_option("--recipe", arguments->recipe,
                   "YAML file of these options, without their dashes; what is typed besides counts "
                   "before it");
  CLI::Option* emulate =
      verb->add_option("--emulate", arguments->options.emulate,
                       "Round to any format (see docs/formats.md), write F16: measures its loss");
  verb->add_option("--to", arguments->options.to,
                   "A .gguf: " + mix_names() + "; a folder: " + usual_folder_formats())
      ->excludes(emulate);
  declare(arguments->folder, *verb);
  verb->add_option("--size", arguments->size,
                   "Most bytes of the file, as in 95M: formats are chosen for each matrix by what "
                   "they cost; also --to 4.75bpw. Needs --calibrate")
      ->excludes(emulate);
  verb->add_option("--sensitivity", arguments->sensitivity,
                   "What each matrix costs, as fewbits calibrate --sensitivity measured it");
  verb->add_option("--tensor", arguments->tensors,
                   "GLOB=FORMAT for tensors by name; the last match counts")
      ->take_all();
  verb->add_option("--output", arguments->options.output_format, "Format of the output layer");
  verb->add_option("--embedding", arguments->options.embedding_format,
                   "Format of the token embedding");
  verb->add_flag("--pure", arguments->options.pure, "One format for all matrices, no mix");
  verb->add_option("--search", arguments->search,
                   "best: lowest error; none: the reference encoder's bytes")
      ->check(CLI::IsMember({"best", "none"}))
      ->capture_default_str();
  verb->add_option("--calibrate", arguments->calibrate,
                   "Text files: round with GPTQ on what the model's layers see when it reads them");
  verb->add_option(
          "--effort", arguments->effort,
          "0: no text (but for --size); 1: fitted with GPTQ, as usual with --calibrate; 2: "
          "also formats measured twice; 3: also trained end to end (fewbits tune)")
      ->check(CLI::Range(0, 3));
  verb->add_option("--time", arguments->time,
                   "With --effort 3: as long as this in all, as in 45m or 8h");
  verb->add_option("--scale-columns", arguments->scale_columns,
                   "With --calibrate, into a .gguf: by a rule, by AWQ's search, or not at all")
      ->check(CLI::IsMember({"none", "balanced", "awq"}))
      ->capture_default_str();
  verb->add_flag("--correct-biases", arguments->correct_biases,
                 "With --calibrate, into a .gguf: biases take up the mean of what rounding loses");
  verb->add_option("--imatrix", arguments->importance,
                   "Weigh errors by this file of fewbits calibrate or llama-imatrix")
      ->excludes("--calibrate");
  add_sample_options(*verb, arguments->samples, "Calibration samples");
  verb->add_option("--learn", arguments->learn,
                   "After GPTQ, steps in which each layer learns its rounding from its outputs "
                   "(200; takes long)")
      ->check(CLI::Range(int64_t{1}, int64_t{100000}));
  verb->add_flag("!--no-certificate", arguments->certificate,
                 "Do not write into the file what it was made of and what that cost");
  verb->add_option("--certify", arguments->certify,
                   "Text file: measure the loss on it, and write that into the file too");
  verb->add_flag("!--no-verify", arguments->verify,
                 "Do not read the output back before it gets its name");
  verb->add_option("--lora", arguments->lora,
                   "Folder of a LoRA adapter (PEFT) to merge into the weights first");
  verb->add_option("--split", arguments->split,
                   "Most bytes of one file, as in 2G; a model that is larger becomes several");
  verb->add_option("--memory", arguments->memory,
                   "Most memory to use, as in 8G (default: 60 % of what is free)");
  verb->add_flag("--restart", arguments->restart,
                 "Do not go on where an interrupted run into this output stopped");
  verb->add_flag("--dry-run", arguments->dry_run,
                 "Print what would be written and what that would take, and stop");
  verb->add_option("--threads", arguments->threads, "0: one for each processor")
      ->check(CLI::Range(0, 1024));
  verb->add_flag("--json", arguments->json, "Print the facts as JSON");
  verb->callback([arguments] { quantize(*arguments); });
}

}  // namespace fewbits::cli
