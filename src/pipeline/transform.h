#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/thread_pool.h"
#include "model/model.h"
#include "pipeline/model_edits.h"
#include "pipeline/quantize.h"

// Writes a model that computes the same and is easier to quantize, as a .gguf or as a Hugging Face
// folder, streaming: a weight's rows are edited as they are read.
namespace fewbits {

struct TransformOptions {
  bool fuse_norms = false;
  bool rotate_residual = false, rotate_heads = false;
  bool equalize = false;
  /// SmoothQuant's alpha: 0 leaves activations as they are, 1 makes them all alike.
  std::optional<double> smooth = {};
  uint64_t seed = 0;
  /// F32, F16 or BF16; "": as each tensor is stored, F16 where it is quantized.
  std::string type = {};
};

/// Throws Error where nothing is asked for, or what does not go together.
void check_transform(const TransformOptions& options);

/// Makes all edits. `largest`: for smoothing, of the model as it is stored.
void edit_model(ModelEdits& edits, const TransformOptions& options, const LargestInputs& largest);

/// What goes into a .gguf (`folder` false) or a folder. Throws Error where `type` is none.
QuantizePlan plan_transform(const Model& model, const TransformOptions& options, bool folder);

/// The same as JSON, for certificates.
Json recipe_of(const TransformOptions& options);

/// Writes what `out` says by its name. REQUIRES: the plan has a certificate.
QuantizeResult write_transformed(const Model& model, const QuantizePlan& plan,
                                 const QuantizeRun& run, const std::filesystem::path& out,
                                 ThreadPool& pool);

/// Whether a name is that of a folder.
bool names_folder(const std::filesystem::path& out);

}  // namespace fewbits
