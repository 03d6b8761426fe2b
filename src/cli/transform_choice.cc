#include "cli/transform_choice.h"

#include "calibrate/sample_run.h"
#include "cli/console.h"

namespace fewbits::cli {

void TransformChoice::settle() {
  options.rotate_residual = rotate == "residual" || rotate == "both";
  options.rotate_heads = rotate == "heads" || rotate == "both";
  if (alpha >= 0) options.smooth = alpha;
  check_transform(options);
}

bool TransformChoice::any() const {
  return options.fuse_norms || options.equalize || !rotate.empty() || alpha >= 0;
}

void declare(TransformChoice& choice, CLI::App& verb) {
  verb.add_flag("--fuse-norms", choice.options.fuse_norms,
                "The gains of norms go into the matrices that read them");
  verb.add_option("--rotate", choice.rotate,
                  "Turn the hidden states (residual), the values of each head (heads), or both")
      ->check(CLI::IsMember({"residual", "heads", "both"}));
  verb.add_option("--seed", choice.options.seed, "Of the rotations")->capture_default_str();
  verb.add_flag("--equalize", choice.options.equalize,
                "Even out the rows of value and up with the columns that read them");
  verb.add_option("--smooth", choice.alpha,
                  "Move size from activations to weights (SmoothQuant's alpha, as in 0.5)")
      ->check(CLI::Range(0.0, 1.0));
}

LargestInputs largest_inputs(const Model& model, std::span<const std::vector<Token>> samples,
                             ThreadPool& pool) {
  Progress progress("activations");
  LargestInputs largest = gather_largest_inputs(
      model, samples, pool, [&](int64_t done, int64_t total) { progress.update(done, total); });
  progress.finish();
  return largest;
}

}  // namespace fewbits::cli
