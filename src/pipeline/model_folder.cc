#include "pipeline/model_folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "base/checked_math.h"
#include "base/error.h"
#include "base/interrupt.h"
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
const Format& format_of(const QuantizePlan& plan, const Layout& layout) {
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
  if (!layout.writes(*format)) {
    throw Error(fmt::format("{}: {} cannot hold it, but {}", format->name, layout.name,
                            join(formats_of(layout))));
  }
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

/// A folder that is removed unless it gets its name.
class NewFolder {
 public:
  explicit NewFolder(const fs::path& out)
      : out_(out),
        temporary_(out.parent_path() / fmt::format(".{}.fewbits.tmp", out.filename().string())) {
    std::error_code error;
    fs::remove_all(temporary_, error);  // of a run that was killed
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
  fs::path operator/(std::string_view name) const { return temporary_ / name; }

  void write_text(std::string_view name, const std::string& text) const {
    OutputFile file(temporary_ / name, std::ssize(text));
    file.append(std::as_bytes(std::span(text)));
    file.commit();
  }

  void commit() {
    std::error_code error;
    fs::rename(temporary_, out_, error);
    if (error) throw Error(fmt::format("{}: {}", out_.string(), error.message()));
    done_ = true;
  }

 private:
  fs::path out_, temporary_;
  bool done_ = false;
};

void write_config(const Model& model, const QuantizePlan& plan, const Layout& layout,
                  const NewFolder& folder) {
  Json config = read_json_file(model.path / "config.json");
  // Scales are halves: in bfloat16 they would lose three bits.
  for (const char* key : {"torch_dtype", "dtype"}) {
    if (config.contains(key)) config[key] = "float16";
  }
  config["quantization_config"] = layout.config(format_of(plan, layout), ignored_modules(plan));
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

/// With the hashes of all files but itself.
void write_certificate(Json certificate, const NewFolder& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder.path())) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  certificate["files"] = to_json(hash_files(files, [](int64_t) { throw_if_interrupted(); }));
  folder.write_text(kCertificateFile, certificate.dump(2) + "\n");
}

QuantizeResult write_weights(const Model& model, const QuantizePlan& plan, const QuantizeRun& run,
                             FolderWeights& weights, ThreadPool& pool) {
  QuantizeResult result;
  result.bytes_in = model.store.file_bytes();
  RoundingError all;
  int64_t values = 0, done = 0;
  for (const PlannedWeight& planned : plan.weights) {
    const Weight& weight = *planned.weight;
    const Format& format = planned.emulated ? *planned.emulated : weight.format();
    values += weight.values();
    done += weight.stored_bytes();
    if (run.progress) run.progress(done, result.bytes_in, weight.gguf_name);
    const RoundingError sums = weights.write(run, pool);
    all.add(sums);
    result.tensors.push_back({weight.gguf_name, &format,
                              weight.rows() * row_bytes(format, weight.columns()),
                              sums.relative()});
  }
  weights.finish();
  result.bytes_out = weights.file_bytes();
  result.bits_per_weight =
      8.0 * static_cast<double>(result.bytes_out) / static_cast<double>(values);
  result.relative_error = all.relative();
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

QuantizeResult write_model_folder(const Model& model, const QuantizePlan& plan,
                                  const QuantizeRun& run, const FolderTarget& target,
                                  ThreadPool& pool) {
  check_folder_output(model.path, target.path);
  const Layout& layout = *target.layout;
  const Format& format = format_of(plan, layout);
  NewFolder folder(fs::absolute(target.path).lexically_normal());
  FolderWeights weights(model, plan, target, folder.path());
  QuantizeResult result = write_weights(model, plan, run, weights, pool);
  write_config(model, plan, layout, folder);
  for (const char* name : kTakenOver) {
    std::error_code error;
    if (fs::exists(model.path / name, error)) fs::copy_file(model.path / name, folder / name);
  }
  write_card(model, target, format, result, folder);
  if (target.verify) weights.verify(folder.path(), pool);
  if (target.certificate) {
    Json certificate = completed_certificate(plan, result, weights.data_sha256());
    if (run.measure) certificate["measured"] = run.measure(folder.path());
    write_certificate(std::move(certificate), folder);
  }
  folder.commit();
  return result;
}

}  // namespace fewbits
