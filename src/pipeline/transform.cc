#include "pipeline/transform.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "base/text.h"
#include "base/version.h"
#include "pipeline/certificate.h"
#include "pipeline/mix.h"
#include "pipeline/model_folder.h"

namespace fewbits {
namespace {

/// Null where types stay as they are stored.
const Format* wanted_format(const TransformOptions& options) {
  if (options.type.empty()) return nullptr;
  const Format& format = format_named(options.type);
  if (format.is_float()) return &format;
  throw Error(
      fmt::format("--type: {} is none to write here; known: BF16, F16, F32 (quantize what "
                  "comes out)",
                  format.name));
}

/// GGUF keeps norms, biases and routers in F32.
const Format& format_for(const Weight& weight, const Format* wanted, bool folder) {
  const Format& stored = weight.format();
  if (!folder && !weight.is_matrix() && stored.is_float()) return format_named("F32");
  if (wanted != nullptr) return *wanted;
  if (stored.is_float()) return stored;
  return folder || weight.computed ? format_named("F16") : stored;
}

/// The format of the first matrix in a layer; null where that is quantized.
const Format* main_format(const QuantizePlan& plan) {
  const auto matrix = std::ranges::find_if(plan.weights, [](const PlannedWeight& planned) {
    return planned.weight->layer >= 0 && planned.weight->is_matrix();
  });
  return matrix != plan.weights.end() && matrix->format->is_float() ? matrix->format : nullptr;
}

Json config_changes(const Model& model, const QuantizePlan& plan) {
  const Json config = read_json_file(model.path / "config.json");
  Json changes = {{"quantization_config", nullptr}};
  if (model.find(Role::kOutput) != nullptr) changes["tie_word_embeddings"] = false;
  const Format* format = main_format(plan);
  if (format == nullptr) return changes;
  const char* name = format->name == "F32"   ? "float32"
                     : format->name == "F16" ? "float16"
                                             : "bfloat16";
  for (const char* key : {"torch_dtype", "dtype"}) {
    if (config.contains(key)) changes[key] = name;
  }
  return changes;
}

std::string card_of(const Model& model, const Json& recipe) {
  const std::string source = model.path.filename().string();
  return fmt::format(
      "# {}, transformed\n\nMade by fewbits {} from `{}`: the weights are others, the function "
      "that the model computes is the same, up to the rounding of their type. What was done: "
      "`{}`.\n\n`{}` says by hash from what it was made.\n",
      source, program_version(), source, recipe.dump(), kCertificateFile);
}

}  // namespace

bool names_folder(const std::filesystem::path& out) {
  return lower_ascii(out.extension().string()) != ".gguf";
}

void check_transform(const TransformOptions& options) {
  const bool others =
      options.fuse_norms || options.rotate_residual || options.rotate_heads || options.equalize;
  if (!others && !options.smooth) {
    throw Error(
        "nothing to do: give --fuse-norms, --rotate residual, --rotate heads, --rotate both, "
        "--equalize or --smooth");
  }
  if (others && options.smooth) {
    throw Error(
        "--smooth goes by the activations of the model as it is stored: write the other transforms "
        "first and smooth what comes out");
  }
  wanted_format(options);
}

void edit_model(ModelEdits& edits, const TransformOptions& options, const LargestInputs& largest) {
  if (options.fuse_norms) edits.fuse_norms();
  if (options.rotate_residual) edits.rotate_residual(options.seed);
  if (options.rotate_heads) edits.rotate_heads(options.seed);
  if (options.equalize) edits.equalize();
  if (options.smooth) edits.smooth(largest, *options.smooth);
  edits.finish();
}

QuantizePlan plan_transform(const Model& model, const TransformOptions& options, bool folder) {
  const Format* wanted = wanted_format(options);
  QuantizePlan plan;
  for (const Weight& weight : model.weights) {
    plan.weights.push_back({.weight = &weight, .format = &format_for(weight, wanted, folder)});
  }
  const auto rounded = std::ranges::find_if(plan.weights, [](const PlannedWeight& planned) {
    return !planned.weight->format().is_float() && planned.format->is_float();
  });
  if (rounded != plan.weights.end()) {
    plan.warnings.push_back(
        fmt::format("{} is quantized already; what that lost stays lost, and the transform cannot "
                    "help it; start from the 16-bit model where you can",
                    model.path.string()));
  }
  plan.metadata = gguf_metadata(model);
  plan.metadata.erase(kCertificateKey);
  if (const Format* format = main_format(plan)) {
    plan.metadata.set_uint32("general.file_type", mix_named(format->name).file_type);
  }
  plan.bytes_out = gguf_file_bytes(plan.metadata, plan.tensors());
  return plan;
}

Json recipe_of(const TransformOptions& options) {
  Json transform = Json::object();
  if (options.fuse_norms) transform["fuse_norms"] = true;
  if (options.rotate_residual || options.rotate_heads) {
    transform["rotate"] = options.rotate_residual && options.rotate_heads ? "both"
                          : options.rotate_heads                          ? "heads"
                                                                          : "residual";
    transform["seed"] = options.seed;
  }
  if (options.equalize) transform["equalize"] = true;
  if (options.smooth) transform["smooth"] = *options.smooth;
  if (!options.type.empty()) transform["type"] = options.type;
  return {{"transform", std::move(transform)}};
}

QuantizeResult write_transformed(const Model& model, const QuantizePlan& plan,
                                 const QuantizeRun& run, const std::filesystem::path& out,
                                 ThreadPool& pool) {
  if (!names_folder(out)) return run_quantize(model, plan, run, out, pool);
  const PlainFolder folder{.path = out,
                           .config = config_changes(model, plan),
                           .card = card_of(model, plan.certificate.at("recipe"))};
  return write_plain_folder(model, plan, run, folder, pool);
}

}  // namespace fewbits
