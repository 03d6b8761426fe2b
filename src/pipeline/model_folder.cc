#include "pipeline/model_folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "base/checked_math.h"
#include "base/error.h"
#include "base/interrupt.h"
#include "base/mapped_file.h"
#include "base/text.h"
#include "base/version.h"
#include "files/file_hash.h"
#include "files/layouts/layout.h"
#include "pipeline/certificate.h"
#include "pipeline/folder_weights.h"

namespace fewbits {
namespace {

namespace fs = std::filesystem;

// What a model folder holds besides config and weights. Taken over where the source has it.
constexpr std::array kTakenOver = {
    "tokenizer.json",      "tokenizer_config.json",   "special_tokens_map.json",
    "added_tokens.json",   "tokenizer.model",         "vocab.json",
    "merges.txt",          "generation_config.json",  "chat_template.json",
    "chat_template.jinja", "preprocessor_config.json"};

/// The one format of all quantized weights.
const Format& format_of(const QuantizePlan& plan) {
  const Format* format = nullptr;
  for (const PlannedWeight& planned : plan.weights) {
    if (planned.emulated == nullptr) continue;
    const Weight& weight = *planned.weight;
    if (!weight.parts.empty() || weight.transposed || weight.shape.size() != 2) {
      throw Error(
          fmt::format("{}: experts and matrices that lie on their side cannot be written "
                      "in this layout; write a .gguf",
                      weight.gguf_name));
    }
    if (format != nullptr && format != planned.emulated) {
      throw Error(fmt::format("{}: {} besides {}; this layout takes one format", weight.gguf_name,
                              planned.emulated->name, format->name));
    }
    format = planned.emulated;
  }
  if (format == nullptr) throw Error("no weight of this model can be written in that format");
  return *format;
}

std::vector<std::string> ignored_modules(const QuantizePlan& plan) {
  std::vector<std::string> modules = {"lm_head"};
  for (const PlannedWeight& planned : plan.weights) {
    const Weight& weight = *planned.weight;
    const bool linear = weight.is_matrix() && weight.role != Role::kEmbedding;
    if (!linear || planned.emulated || !weight.tensor->name.ends_with(".weight")) continue;
    if (const std::string module = module_of(*weight.tensor); module != "lm_head")
      modules.push_back(module);
  }
  return modules;
}

/// Bytes of a file that appears whole; with `verify` they are read back.
void write_bytes(const fs::path& path, std::span<const std::byte> bytes, bool verify) {
  OutputFile file(path, std::ssize(bytes));
  file.append(bytes);
  file.commit();
  if (!verify) return;
  const MappedFile found = MappedFile::open(path);
  if (std::ranges::equal(found.bytes(), bytes)) return;
  throw Error(fmt::format("{}: reads back as something else than was written; is the disk sound?",
                          path.string()));
}

/// A folder that is removed unless it gets its name or is kept.
class NewFolder {
 public:
  /// With `goes_on` as an earlier run left it.
  NewFolder(const fs::path& out, bool goes_on, bool verify)
      : out_(out), temporary_(beside_output(out, "partial")), verify_(verify) {
    std::error_code error;
    if (!goes_on) fs::remove_all(temporary_, error);
    fs::create_directory(temporary_, error);
    if (error) {
      throw Error(fmt::format("{}: cannot be created: {}", temporary_.string(), error.message()));
    }
  }
  ~NewFolder() {
    std::error_code ignored;
    if (!done_) fs::remove_all(temporary_, ignored);
  }
  NewFolder(const NewFolder&) = delete;
  NewFolder& operator=(const NewFolder&) = delete;

  const fs::path& path() const { return temporary_; }

  void write_text(std::string_view name, const std::string& text) const {
    write_bytes(temporary_ / name, std::as_bytes(std::span(text)), verify_);
  }

  void copy(const fs::path& source) const {
    const MappedFile file = MappedFile::open(source);
    write_bytes(temporary_ / source.filename(), file.bytes(), verify_);
  }

  void keep() { done_ = true; }

  void commit() {
    rename_folder(temporary_, out_);
    done_ = true;
  }

 private:
  fs::path out_, temporary_;
  bool verify_;
  bool done_ = false;
};

FolderScheme scheme_of(const Model& model, const QuantizePlan& plan, const FolderTarget& target) {
  FolderScheme scheme{.format = format_of(plan)};
  scheme.inputs = target.inputs;
  scheme.kv_scales = target.kv_scales;
  scheme.by_use = target.by_use;
  scheme.sparse = target.sparse;
  refuse_unkept(*target.layout, scheme);
  if (scheme.kv_scales && model.config.latent > 0) {
    throw Error("--kv-scales: this model caches a latent state, not keys and values");
  }
  return scheme;
}

void write_config(const Model& model, const QuantizePlan& plan, const Layout& layout,
                  const FolderScheme& scheme, const NewFolder& folder) {
  Json config = read_json_file(model.path / "config.json");
  // Scales are halves: in bfloat16 they would lose three bits.
  for (const char* key : {"torch_dtype", "dtype"}) {
    if (config.contains(key)) config[key] = "float16";
  }
  if (model.find(Role::kOutput) != nullptr) config["tie_word_embeddings"] = false;
  config["quantization_config"] = layout.config(scheme, ignored_modules(plan));
  folder.write_text("config.json", config.dump(2) + "\n");
}

/// For people: what it is, what that cost, and the certificate in words.
void write_card(const Model& model, const FolderTarget& target, const Format& format,
                const QuantizeResult& result, const NewFolder& folder) {
  const std::string source = model.path.filename().string();
  std::string card = fmt::format(
      "---\ntags:\n- {}\n---\n# {} in {}\n\n"
      "Quantized by fewbits {} from `{}`: the linear layers are in {}, the rest is as it was; "
      "{:.2f} "
      "bits per weight in all. Relative error of the weights: {:.2e} (sum of squared errors over "
      "sum of squares).\n\nThe layout is {}: vLLM, SGLang and transformers load it.\n",
      target.layout->method, source, format.name, program_version(), source, format.name,
      result.bits_per_weight, result.relative_error, target.layout->name);
  if (target.certificate) {
    card += fmt::format(
        "\n`{}` says by hash from what and how it was made, and what each tensor lost; "
        "`fewbits inspect --verify FOLDER` checks it.\n",
        kCertificateFile);
  }
  folder.write_text("README.md", card);
}

void take_over(const Model& model, const NewFolder& folder) {
  for (const char* name : kTakenOver) {
    std::error_code error;
    if (fs::exists(model.path / name, error)) folder.copy(model.path / name);
  }
}

/// With the hashes of all files but itself.
void write_certificate(Json certificate, const NewFolder& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder.path())) {
    const std::string name = entry.path().filename().string();
    // Not what a run that was killed left here: its own text, and unfinished ones.
    if (name != kCertificateFile && !name.starts_with('.')) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  certificate["files"] = to_json(hash_files(files, [](int64_t) { throw_if_interrupted(); }));
  folder.write_text(kCertificateFile, certificate.dump(2) + "\n");
}

/// `plain`: all weights are in the plan's formats, and none is copied as it is stored.
QuantizeResult result_of_folder(const Model& model, const QuantizePlan& plan, bool plain,
                                const std::vector<WrittenWeight>& written, int64_t bytes) {
  QuantizeResult result = result_of(model, plan, written);
  for (size_t i = 0; i < plan.weights.size() && !plain; ++i) {
    const Weight& weight = *plan.weights[i].weight;
    const Format* emulated = plan.weights[i].emulated;
    result.tensors[i].format = emulated != nullptr ? emulated : &kept_format(weight);
    result.tensors[i].bytes =
        weight.rows() * row_bytes(*result.tensors[i].format, weight.columns());
  }
  result.bytes_out = bytes;
  result.bits_per_weight = bits_per_weight(bytes, plan);
  return result;
}

}  // namespace

void check_folder_output(const fs::path& model, const fs::path& out) {
  std::error_code ignored;
  if (!fs::is_directory(model, ignored)) {
    throw Error(
        fmt::format("{}: a model folder is made from a Hugging Face folder; from a GGUF "
                    "write a .gguf",
                    model.string()));
  }
  if (fs::exists(out, ignored)) {
    throw Error(fmt::format("{}: is there already; remove it or give another name", out.string()));
  }
}

QuantizeResult write_plain_folder(const Model& model, const QuantizePlan& plan,
                                  const QuantizeRun& run, const PlainFolder& plain,
                                  ThreadPool& pool) {
  check_folder_output(model.path, plain.path);
  const FolderTarget target{.path = plain.path, .layout = nullptr};
  NewFolder folder(fs::absolute(plain.path).lexically_normal(), false, run.verify);
  FolderWeights output({model, plan, run, target, pool}, folder.path());
  WeightsRun weights(plan, run, plain.path, output);
  QuantizeResult result;
  weights.finish([&] {
    output.finish();
    result = result_of_folder(model, plan, true, weights.written(), output.file_bytes());
    Json config = read_json_file(model.path / "config.json");
    config.merge_patch(plain.config);
    folder.write_text("config.json", config.dump(2) + "\n");
    take_over(model, folder);
    folder.write_text("README.md", plain.card);
    if (run.verify) output.verify(weights.written());
    write_certificate(completed_certificate(plan, result, weights.data_sha256()), folder);
    folder.commit();
  });
  return result;
}

QuantizeResult write_model_folder(const Model& model, const QuantizePlan& plan,
                                  const QuantizeRun& run, const FolderTarget& target,
                                  ThreadPool& pool) {
  check_folder_output(model.path, target.path);
  const FolderScheme scheme = scheme_of(model, plan, target);
  const bool goes_on = run.journal != nullptr && !run.journal->records().empty();
  NewFolder folder(fs::absolute(target.path).lexically_normal(), goes_on, run.verify);
  FolderWeights output({model, plan, run, target, pool}, folder.path());
  WeightsRun weights(plan, run, target.path, output);
  QuantizeResult result;
  const auto complete = [&] {
    output.finish();
    result = result_of_folder(model, plan, false, weights.written(), output.file_bytes());
    result.bytes_aside = weights.bytes_aside();
    write_config(model, plan, *target.layout, scheme, folder);
    take_over(model, folder);
    write_card(model, target, scheme.format, result, folder);
    if (run.verify) output.verify(weights.written());
    if (target.certificate) {
      Json certificate = completed_certificate(plan, result, weights.data_sha256());
      if (run.measure) certificate["measured"] = run.measure(folder.path());
      write_certificate(std::move(certificate), folder);
    }
    folder.commit();
  };
  try {
    weights.finish(complete);
  } catch (...) {
    if (output.kept()) folder.keep();
    throw;
  }
  return result;
}

}  // namespace fewbits
