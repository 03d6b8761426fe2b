#pragma once

#include <filesystem>
#include <string>

#include "base/json.h"
#include "pipeline/folder_weights.h"
#include "pipeline/quantize.h"

// Writes a quantized model as a Hugging Face folder in one of the layouts of files/layouts/:
// config.json with its quantization_config, safetensors, a model card, and the tokenizer,
// generation config and chat template of the source as they are.
namespace fewbits {

/// Throws Error where `out` is there already or `model` is no Hugging Face folder.
void check_folder_output(const std::filesystem::path& model, const std::filesystem::path& out);

/// `plan` comes from plan_quantize with `emulate`; its emulated weights are written in that format,
/// all others as they are stored. The folder appears under its name only when it is whole. Throws
/// Error, before any work, where a weight cannot be written so: experts, matrices that lie on their
/// side, more than one format, a format without a layout.
QuantizeResult write_model_folder(const Model& model, const QuantizePlan& plan,
                                  const QuantizeRun& run, const FolderTarget& target,
                                  ThreadPool& pool);

/// A folder of the same kind as the source, nothing in it quantized.
struct PlainFolder {
  std::filesystem::path path;
  Json config = Json::object();  ///< what changes in config.json: a merge patch (RFC 7396)
  std::string card = {};         ///< README.md
};

/// Every tensor in the plan's format. The folder appears under its name only when it is whole.
/// Throws Error where a value is too large for its format. REQUIRES: `plan` has a certificate.
QuantizeResult write_plain_folder(const Model& model, const QuantizePlan& plan,
                                  const QuantizeRun& run, const PlainFolder& plain,
                                  ThreadPool& pool);

}  // namespace fewbits
