#pragma once

#include <CLI/CLI.hpp>
#include <span>
#include <string>
#include <vector>

#include "model/model.h"
#include "pipeline/transform.h"

namespace fewbits::cli {

/// Which transforms a model goes through before it is written.
struct TransformChoice {
  TransformOptions options;
  std::string rotate;
  double alpha = -1;  ///< below 0: not smoothed

  /// Fills in `options`. Throws Error where nothing is asked for, or what does not go together.
  void settle();
  bool any() const;
};

/// --fuse-norms, --rotate, --seed, --equalize and --smooth. `choice` must outlive the app.
void declare(TransformChoice& choice, CLI::App& verb);

/// What smoothing goes by, with a bar.
LargestInputs largest_inputs(const Model& model, std::span<const std::vector<Token>> samples,
                             ThreadPool& pool);

}  // namespace fewbits::cli
