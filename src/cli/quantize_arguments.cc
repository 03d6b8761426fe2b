#include "cli/quantize_arguments.h"

#include <fmt/format.h>

#include <utility>

#include "base/error.h"
#include "base/text.h"
#include "cli/sample_arguments.h"
#include "cli/tuning.h"
#include "files/file_hash.h"
#include "kernels/kernel_table.h"
#include "pipeline/certificate.h"
#include "pipeline/mix.h"
#include "pipeline/model_folder.h"

namespace fewbits::cli {
namespace {

std::string mix_names() {
  std::vector<std::string> names;
  for (const Mix& mix : mixes()) names.emplace_back(mix.name);
  return join(names);
}

/// What is written, and in which formats.
void declare_output(QuantizeArguments& arguments, CLI::App& verb) {
  verb.add_option("model", arguments.in, "Hugging Face folder or .gguf file")->required();
  verb.add_option("out", arguments.out, ".gguf file, or model folder, to write")->required();
  verb.add_option("--recipe", arguments.recipe,
                  "YAML file of these options, without their dashes; what is typed besides counts "
                  "before it");
  CLI::Option* emulate =
      verb.add_option("--emulate", arguments.options.emulate,
                      "Round to any format (see docs/formats.md), write F16: measures its loss");
  verb.add_option("--to", arguments.options.to,
                  "A .gguf: " + mix_names() + "; a folder: " + usual_folder_formats())
      ->excludes(emulate);
  declare(arguments.folder, verb);
  verb.add_option("--size", arguments.size,
                  "Most bytes of the file, as in 95M: formats are chosen for each matrix by what "
                  "they cost; also --to 4.75bpw. Needs --calibrate")
      ->excludes(emulate);
  verb.add_option("--sensitivity", arguments.sensitivity,
                  "What each matrix costs, as fewbits calibrate --sensitivity measured it");
  verb.add_option("--tensor", arguments.tensors,
                  "GLOB=FORMAT for tensors by name; the last match counts")
      ->take_all();
  verb.add_option("--output", arguments.options.output_format, "Format of the output layer");
  verb.add_option("--embedding", arguments.options.embedding_format,
                  "Format of the token embedding");
  verb.add_flag("--pure", arguments.options.pure, "One format for all matrices, no mix");
  verb.add_option(
          "--search", arguments.search,
          "Without text. best: lowest squared error; robust: many small errors for few large ones "
          "(HQQ); none: the reference encoder's bytes")
      ->check(CLI::IsMember({"best", "robust", "none"}))
      ->capture_default_str();
}

/// What happens to the model before it is rounded.
void declare_source(QuantizeArguments& arguments, CLI::App& verb) {
  verb.add_option("--lora", arguments.lora,
                  "Folder of a LoRA adapter (PEFT) to merge into the weights first");
  declare(arguments.transforms, verb);
}

/// What text is for.
void declare_fitting(QuantizeArguments& arguments, CLI::App& verb) {
  verb.add_option("--calibrate", arguments.calibrate,
                  "Text files: round with GPTQ on what the model's layers see when it reads them");
  verb.add_option("--effort", arguments.effort,
                  "0: no text (but for --size); 1: fitted with GPTQ, as usual with --calibrate; 2: "
                  "rounding learnt (--learn 64) and formats measured twice, too; 3: also trained "
                  "end to end (fewbits tune)")
      ->check(CLI::Range(0, 3));
  verb.add_option("--time", arguments.time,
                  "With --effort 3: as long as this in all, as in 45m or 8h");
  verb.add_option("--scale-columns", arguments.scale_columns,
                  "With --calibrate, into a .gguf: by AWQ's search, by a rule, or not at all")
      ->check(CLI::IsMember({"awq", "balanced", "none"}))
      ->capture_default_str();
  verb.add_option(
          "--aim", arguments.aim,
          "With --calibrate: matrices make up for what was lost before them (outputs), or come as "
          "near as they can to their weights, in less memory")
      ->check(CLI::IsMember({"outputs", "weights"}))
      ->capture_default_str();
  verb.add_flag("--correct-biases", arguments.correct_biases,
                "With --calibrate, into a .gguf: biases take up the mean of what rounding loses");
  verb.add_option("--imatrix", arguments.importance,
                  "Weigh errors by this file of fewbits calibrate or llama-imatrix")
      ->excludes("--calibrate");
  add_sample_options(verb, arguments.samples, "Calibration samples");
  verb.add_option("--learn", arguments.learn,
                  "After GPTQ, steps in which each layer learns its rounding from its outputs "
                  "(200; takes long)")
      ->check(CLI::Range(int64_t{1}, int64_t{100000}));
}

void declare_run(QuantizeArguments& arguments, CLI::App& verb) {
  verb.add_flag("!--no-certificate", arguments.certificate,
                "Do not write into the file what it was made of and what that cost");
  verb.add_option("--certify", arguments.certify,
                  "Text file: measure the loss on it, and write that into the file too");
  verb.add_flag("!--no-verify", arguments.verify,
                "Do not read the output back before it gets its name");
  verb.add_option("--split", arguments.split,
                  "Most bytes of one file, as in 2G; a model that is larger becomes several");
  verb.add_option("--memory", arguments.memory,
                  "Most memory to use, as in 8G (default: 60 % of what is free)");
  verb.add_flag("--restart", arguments.restart,
                "Do not go on where an interrupted run into this output stopped");
  verb.add_flag("--dry-run", arguments.dry_run,
                "Print what would be written and what that would take, and stop");
  verb.add_option("--threads", arguments.threads, "0: one for each processor")
      ->check(CLI::Range(0, 1024));
  verb.add_flag("--json", arguments.json, "Print the facts as JSON");
}

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

void settle_transforms(QuantizeArguments& arguments) {
  if (!arguments.transforms.any()) return;
  arguments.transforms.settle();
  if (arguments.transforms.options.smooth && arguments.calibrate.empty()) {
    throw Error("--smooth needs to see activations: give --calibrate TEXT");
  }
  if (!arguments.importance.empty() || !arguments.sensitivity.empty()) {
    throw Error(
        "--imatrix and --sensitivity tell of the model as it is stored: not with --fuse-norms, "
        "--rotate, --equalize or --smooth; measure what fewbits transform writes");
  }
}

}  // namespace

void declare(QuantizeArguments& arguments, CLI::App& verb) {
  declare_output(arguments, verb);
  declare_source(arguments, verb);
  declare_fitting(arguments, verb);
  declare_run(arguments, verb);
}

void settle(QuantizeArguments& arguments) {
  constexpr int64_t kUsualSteps = 64;
  settle_effort(arguments);
  const bool learns = arguments.effort >= kLearned && !arguments.folder.act_order;
  if (learns && arguments.learn == 0) arguments.learn = kUsualSteps;
  split_tensor_formats(arguments);
  settle_transforms(arguments);
  arguments.options.weighted = !arguments.importance.empty() || arguments.calibrated();
}

ColumnScaling QuantizeArguments::scaling() const {
  const std::string& name = scale_columns;
  return name == "none"  ? ColumnScaling::kNone
         : name == "awq" ? ColumnScaling::kAwq
                         : ColumnScaling::kBalanced;
}

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

Json recipe_of(const QuantizeArguments& arguments) {
  const QuantizeOptions& options = arguments.options;
  Json recipe = {{"to", options.to}, {"search", arguments.search}};
  const bool gguf = arguments.folder.layout.empty() || arguments.folder.layout == "gguf";
  if (gguf) {
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
    recipe["calibration"] = describe_samples(arguments.calibrate, arguments.samples);
    if (arguments.learn > 0) recipe["calibration"]["learn"] = arguments.learn;
    recipe["instruction_set"] = kernels().name;
    if (arguments.correct_biases) recipe["correct_biases"] = true;
    recipe["aim"] = arguments.aim;
    if (gguf) recipe["scale_columns"] = arguments.scale_columns;
  }
  if (arguments.transforms.any()) recipe.update(recipe_of(arguments.transforms.options));
  if (!arguments.lora.empty()) {
    recipe["lora"] = to_json(hash_files(checkpoint_files(arguments.lora), [](int64_t) {}));
  }
  if (!arguments.importance.empty()) {
    recipe["imatrix"] = to_json(hash_files({arguments.importance}, [](int64_t) {})).front();
  }
  return recipe;
}

}  // namespace fewbits::cli
