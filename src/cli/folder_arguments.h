#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>

#include "base/json.h"
#include "files/layouts/layout.h"
#include "pipeline/model_folder.h"
#include "pipeline/sample_streams.h"

namespace fewbits::cli {

/// How quantize is told to write a Hugging Face folder, and what is to lie in it besides weights.
struct FolderArguments {
  std::string layout;       ///< "" by the name of the output
  std::string activations;  ///< "" as usual for the format
  std::string observer;     ///< of static ones; "" the largest value
  bool kv_scales = false;
  bool act_order = false;
  bool sparse = false;

  /// Whether `out` is to be a folder: one is asked for, or its name is none of a GGUF.
  bool wanted(const std::string& out) const;

  /// The layout that writes the format `to` into the folder `out`. A folder has one format, not a
  /// mix. Throws Error where the layout cannot hold the format or what else is asked for.
  const Layout& settle(const std::string& out, const std::string& to, bool calibrated);

  /// How the ranges of static inputs are found. REQUIRES: settled.
  void observe(const Layout& chosen, const Format& format, StreamOptions& streams) const;

  /// Throws Error where something is asked for that only a folder has a place for.
  void refuse_outside_folders() const;

  void describe(Json& recipe) const;
  FolderTarget target(const std::string& out, const Layout& chosen) const;

 private:
  std::optional<Inputs> inputs() const;
  FolderScheme scheme(const Format& format) const;
  bool plain() const;
  void check(const Layout& chosen, const Format& format, bool calibrated) const;
};

void declare(FolderArguments& arguments, CLI::App& verb);

/// The formats of a folder whose layout nobody names.
std::string usual_folder_formats();

}  // namespace fewbits::cli
