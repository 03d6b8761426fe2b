#include "pipeline/quantize.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>

#include "base/error.h"
#include "base/interrupt.h"
#include "base/mapped_file.h"
#include "base/text.h"
#include "calibrate/samples.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/wanted_size.h"
#include "evaluate/evaluate.h"
#include "files/gguf_split.h"
#include "files/layouts/layout.h"
#include "kernels/kernel_table.h"
#include "pipeline/calibrated_layers.h"
#include "pipeline/certificate.h"
#include "pipeline/mix.h"
#include "pipeline/model_folder.h"
#include "pipeline/sensitivity.h"

namespace fewbits::cli {
namespace {

constexpr std::string_view kDefaultLayout = "compressed-tensors";

struct QuantizeArguments {
  std::string in, out;
  std::vector<std::string> tensors;  // glob=FORMAT
  std::string search = "best";
  std::string layout;  // "" by the name of the output
  int threads = 0;
  bool json = false;
  bool dry_run = false;
  bool certificate = true;
  bool verify = true;
  std::string split;                             // most bytes of a file
  std::string lora;                              // folder
  std::string certify;                           // text to measure the loss on
  std::string size;                              // of the file at most
  std::vector<std::filesystem::path> calibrate;  // texts
  SampleOptions samples;
  std::string importance;  // file
  QuantizeOptions options;
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

/// Chooses the formats of the layers' matrices by what they cost in predictions, so that the file
/// has the wanted size.
void choose_formats(const QuantizeArguments& arguments, const Model& model, int64_t bytes,
                    ThreadPool& pool, QuantizePlan& plan) {
  constexpr int64_t kProbes = 2;
  const auto samples = take_samples(model.tokenizer, arguments.calibrate,
                                    {.count = kProbes, .length = arguments.samples.length});
  Progress progress("measuring sensitivity");
  const auto sensitivities = measure_sensitivity(
      model, samples, pool, [&](int64_t done, int64_t total) { progress.update(done, total, ""); });
  // The certificate names the formats: with others it may be a little longer.
  constexpr int64_t kLongerNames = 8;
  fit_to_size(plan, sensitivities, bytes - kLongerNames * std::ssize(plan.weights));
}

Json to_json(const QuantizeResult& result, double seconds) {
  Json json = {{"bytes_in", result.bytes_in},
               {"bytes_out", result.bytes_out},
               {"bits_per_weight", result.bits_per_weight},
               {"seconds", seconds},
               {"peak_memory_bytes", peak_memory_bytes()},
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

void print_plan(const QuantizePlan& plan, bool json) {
  if (!json) {
    for (const PlannedTensor& tensor : plan.tensors()) {
      print(fmt::format("{:<32} {}\n", tensor.name, tensor.format->name));
    }
    print(fmt::format("{} would be written\n", human_bytes(plan.bytes_out)));
    return;
  }
  Json tensors = Json::array();
  for (const PlannedTensor& tensor : plan.tensors()) {
    tensors.push_back({{"name", tensor.name}, {"format", std::string(tensor.format->name)}});
  }
  print_json({{"bytes_out", plan.bytes_out}, {"tensors", tensors}});
}

/// What was asked for, as the certificate keeps it.
Json recipe_of(const QuantizeArguments& arguments) {
  const QuantizeOptions& options = arguments.options;
  Json recipe = {{"to", options.to}, {"search", arguments.search}};
  if (arguments.layout.empty() || arguments.layout == "gguf") {
    if (!options.emulate.empty()) recipe["emulate"] = options.emulate;
  } else {
    recipe["to"] = options.emulate;
    recipe["layout"] = arguments.layout;
  }
  if (!arguments.size.empty()) recipe["size"] = arguments.size;
  if (options.pure) recipe["pure"] = true;
  if (!options.output_format.empty()) recipe["output"] = options.output_format;
  if (!options.embedding_format.empty()) recipe["embedding"] = options.embedding_format;
  if (!arguments.tensors.empty()) recipe["tensor"] = arguments.tensors;
  if (!arguments.calibrate.empty()) {
    recipe["calibration"] = {{"texts", to_json(hash_files(arguments.calibrate, [](int64_t) {}))},
                             {"samples", arguments.samples.count},
                             {"sample_length", arguments.samples.length}};
    recipe["instruction_set"] = kernels().name;
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
  Progress progress("hashing the source");
  int64_t done = 0;
  return hash_files(checkpoint_files(arguments.in), [&](int64_t more) {
    throw_if_interrupted();
    progress.update(done += more, bytes, "");
  });
}

/// What the file that was written loses against its source, on the text to certify.
Json measure_loss(const Model& source, const std::filesystem::path& file,
                  const std::filesystem::path& text_file, ThreadPool& pool) {
  const Model model = open_model(file);
  const MappedFile text = MappedFile::open(text_file);
  const std::string_view bytes(reinterpret_cast<const char*>(text.bytes().data()),
                               text.bytes().size());
  Progress progress("certify");
  Json facts = facts_of(evaluate_text(
      {.model = &model,
       .reference = &source,
       .pool = &pool,
       .progress = [&](int64_t done, int64_t total) { progress.update(done, total); }},
      bytes, {}));
  facts["text"] = to_json(hash_files({text_file}, [](int64_t) {})).front();
  facts["instruction_set"] = kernels().name;
  return facts;
}

std::optional<Importance> read_importance_of(const QuantizeArguments& arguments) {
  if (arguments.importance.empty()) return {};
  return read_importance(arguments.importance);
}

/// Statistics of another model mostly show in their names.
void refuse_foreign(const Importance& importance, const std::string& path,
                    const QuantizePlan& plan) {
  const auto known = [&](const PlannedWeight& planned) {
    return importance.entries.contains(planned.weight->gguf_name);
  };
  if (std::any_of(plan.weights.begin(), plan.weights.end(), known)) return;
  throw Error(fmt::format("{}: none of its {} matrices is in this model (the first is '{}')", path,
                          importance.entries.size(), importance.entries.begin()->first));
}

/// The layout of the model folder that is written; null: a GGUF is. A folder's format is one
/// format, not a mix.
const Layout* settle_layout(QuantizeArguments& arguments) {
  QuantizeOptions& options = arguments.options;
  const bool gguf =
      lower_ascii(std::filesystem::path(arguments.out).extension().string()) == ".gguf";
  const bool folder = arguments.layout.empty() ? !gguf : arguments.layout != "gguf";
  if (!folder || !options.emulate.empty()) {
    // A misspelt name is found before a large model is opened.
    if (options.emulate.empty()) mix_named(options.to);
    check_output(arguments.in, arguments.out);
    return nullptr;
  }
  const Layout& layout =
      layout_named(arguments.layout.empty() ? kDefaultLayout : std::string_view(arguments.layout));
  const Format* format = find_format(options.to);
  if (format == nullptr || !layout.writes(*format)) {
    throw Error(
        fmt::format("{}: a model folder in the layout {} cannot hold {}, only {}; for others give "
                    "a name that ends in .gguf",
                    arguments.out, layout.name, options.to, join(formats_of(layout))));
  }
  if (!arguments.importance.empty()) throw Error("--importance: only for a .gguf; use --calibrate");
  check_folder_output(arguments.in, arguments.out);
  options.emulate = std::exchange(options.to, {});
  arguments.layout = layout.name;
  return &layout;
}

/// A file that is gone when this is.
struct PassingFile {
  std::filesystem::path path;
  ~PassingFile() {
    std::error_code ignored;
    std::filesystem::remove(path, ignored);
  }
};

/// Writes the file whole under another name, and from there in parts.
QuantizeResult quantize_in_parts(const QuantizeArguments& arguments, const Model& model,
                                 const QuantizePlan& plan, const QuantizeRun& run,
                                 ThreadPool& pool) {
  const int64_t most = parse_bytes("--split", arguments.split);
  const std::filesystem::path out = arguments.out;
  const PassingFile whole{out.parent_path() / fmt::format(".{}.whole.gguf", out.stem().string())};
  const QuantizeResult result = run_quantize(model, plan, run, whole.path, pool);
  Progress progress("split");
  int64_t done = 0;
  const int64_t files = split_gguf(whole.path, out, most, [&](int64_t more) {
    throw_if_interrupted();
    progress.update(done += more, result.bytes_out, "");
  });
  progress.finish();
  if (!arguments.json)
    print(fmt::format("{} is the first of {} files\n", split_name(out, 0, files).string(), files));
  return result;
}

FolderTarget folder_target(const QuantizeArguments& arguments, const Layout& layout) {
  FolderTarget target{.path = arguments.out, .layout = &layout};
  target.certificate = arguments.certificate;
  target.verify = arguments.verify;
  if (!arguments.split.empty()) target.shard_bytes = parse_bytes("--split", arguments.split);
  return target;
}

void quantize(QuantizeArguments& arguments) {
  const Stopwatch clock;
  split_tensor_formats(arguments);
  const WantedSize size = arguments.options.emulate.empty()
                              ? WantedSize(arguments.size, arguments.options.to)
                              : WantedSize();
  if (size.given() && arguments.calibrate.empty()) {
    throw Error(
        "quantize: a size needs --calibrate TEXT: what each matrix costs is measured on it");
  }
  const Layout* folder = settle_layout(arguments);
  const std::optional<Importance> importance = read_importance_of(arguments);
  const Model model = open_model(arguments.in, arguments.lora);
  QuantizePlan plan = plan_quantize(model, arguments.options);
  warn_all(model.warnings);
  warn_all(plan.warnings);
  if (importance) refuse_foreign(*importance, arguments.importance, plan);
  ThreadPool pool(arguments.threads);
  std::vector<FileHash> source;
  const auto certify = [&] {
    if (!source.empty()) {
      add_certificate(plan, source, recipe_of(arguments), !arguments.certify.empty());
    }
  };
  if (arguments.certificate && !arguments.dry_run) {
    source = hash_source(arguments, model.store.file_bytes());
  }
  certify();
  if (size.given()) {
    choose_formats(arguments, model, size.bytes(model.parameters()), pool, plan);
    certify();
  }
  if (arguments.dry_run) return print_plan(plan, arguments.json);

  warn_of_certifying_on_calibration(arguments);
  Progress progress("quantize");
  QuantizeRun run;
  run.search = arguments.search == "none" ? Search::kReference : Search::kBest;
  run.progress = [&](int64_t done, int64_t total, const std::string& tensor) {
    progress.update(done, total, tensor);
  };
  if (importance) run.importance = &*importance;
  if (!arguments.certify.empty()) {
    run.measure = [&](const std::filesystem::path& file) {
      progress.finish();
      return measure_loss(model, file, arguments.certify, pool);
    };
  }
  std::optional<CalibratedEncoder> calibrated;
  if (!arguments.calibrate.empty()) {
    calibrated.emplace(model, plan,
                       take_samples(model.tokenizer, arguments.calibrate, arguments.samples),
                       CalibrationOptions{.scale_columns = folder == nullptr}, pool);
    run.encoder = [&](const PlannedWeight& planned) { return calibrated->encode(planned); };
  }
  const QuantizeResult result =
      folder != nullptr
          ? write_model_folder(model, plan, run, folder_target(arguments, *folder), pool)
      : !arguments.split.empty() ? quantize_in_parts(arguments, model, plan, run, pool)
                                 : run_quantize(model, plan, run, arguments.out, pool);
  progress.finish();
  if (arguments.json) return print_json(to_json(result, clock.seconds()));
  print(fmt::format(
      "{}: {} -> {} ({:.2f} bits per weight), relative error {:.2e}, {:.1f} s, peak memory {}\n",
      arguments.out, human_bytes(result.bytes_in), human_bytes(result.bytes_out),
      result.bits_per_weight, result.relative_error, clock.seconds(),
      human_bytes(peak_memory_bytes())));
}

std::string mix_names() {
  std::vector<std::string> names;
  for (const Mix& mix : mixes()) names.emplace_back(mix.name);
  return join(names);
}

std::vector<std::string> known_layouts() {
  std::vector<std::string> names = written_layouts();
  names.emplace_back("gguf");
  return names;
}

}  // namespace

void add_quantize(CLI::App& app) {
  const auto arguments = std::make_shared<QuantizeArguments>();
  CLI::App* verb = app.add_subcommand("quantize", "Write a model in another number format");
  verb->add_option("model", arguments->in, "Hugging Face folder or .gguf file")->required();
  verb->add_option("out", arguments->out, ".gguf file, or model folder, to write")->required();
  CLI::Option* emulate =
      verb->add_option("--emulate", arguments->options.emulate,
                       "Round to any format (see docs/formats.md), write F16: measures its loss");
  verb->add_option("--to", arguments->options.to,
                   "A .gguf: " + mix_names() +
                       "; a folder: " + join(formats_of(layout_named(kDefaultLayout))))
      ->excludes(emulate);
  verb->add_option("--layout", arguments->layout,
                   "gguf (where OUT is named so), or a Hugging Face folder in the layout " +
                       join(written_layouts()) + "; compressed-tensors where nothing is said")
      ->check(CLI::IsMember(known_layouts()));
  verb->add_option("--size", arguments->size,
                   "Most bytes of the file, as in 95M: formats are chosen for each matrix by what "
                   "they cost; also --to 4.75bpw. Needs --calibrate")
      ->excludes(emulate);
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
  verb->add_option("--imatrix", arguments->importance,
                   "Weigh errors by this file of fewbits calibrate or llama-imatrix")
      ->excludes("--calibrate");
  verb->add_option("--samples", arguments->samples.count, "Calibration samples")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  verb->add_option("--sample-length", arguments->samples.length, "Tokens in each")
      ->check(CLI::Range(16, 1 << 16))
      ->capture_default_str();
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
  verb->add_flag("--dry-run", arguments->dry_run, "Print what would be written, and stop");
  verb->add_option("--threads", arguments->threads, "0: one for each processor")
      ->check(CLI::Range(0, 1024));
  verb->add_flag("--json", arguments->json, "Print the facts as JSON");
  verb->callback([arguments] { quantize(*arguments); });
}

}  // namespace fewbits::cli
