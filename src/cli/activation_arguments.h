#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "cli/kv_arguments.h"
#include "engine/activation_rounding.h"

namespace fewbits::cli {

/// How verbs that run a model name what its layers are fed.
struct ActivationArguments {
  std::string format;

  /// Throws Error where the name is unknown. Scales that a folder has for an FP8 cache are left
  /// out where another cache is asked for.
  ActivationOptions options(const KvArguments& kv) const;
};

void declare(ActivationArguments& arguments, CLI::App& verb);

}  // namespace fewbits::cli
