#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/json.h"
#include "calibrate/samples.h"
#include "cli/folder_arguments.h"
#include "cli/transform_choice.h"
#include "cli/wanted_size.h"
#include "files/layouts/layout.h"
#include "methods/column_scales.h"
#include "pipeline/quantize.h"

namespace fewbits::cli {

// What --effort buys (docs/methods.md says what it gains).
inline constexpr int kMeasuredAgain = 2, kLearned = 2, kTuned = 3;

struct QuantizeArguments {
  std::string in, out;
  std::string recipe;                // its options are among the others
  std::vector<std::string> tensors;  // glob=FORMAT
  std::string search = "best";
  FolderArguments folder;
  TransformChoice transforms;
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
  std::string scale_columns = "awq";
  bool correct_biases = false;
  std::string aim = "outputs";
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
  ColumnScaling scaling() const;
};

void declare(QuantizeArguments& arguments, CLI::App& verb);

/// Throws Error where options contradict each other. What can be refused is, before a model is
/// opened.
void settle(QuantizeArguments& arguments);

/// The layout of the model folder that is written; null: a GGUF is.
const Layout* settle_layout(QuantizeArguments& arguments);

WantedSize settle_size(QuantizeArguments& arguments);

/// What was asked for, as the certificate keeps it.
Json recipe_of(const QuantizeArguments& arguments);

}  // namespace fewbits::cli
