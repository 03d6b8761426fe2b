#include "pipeline/quantize.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/checked_math.h"
#include "base/error.h"
#include "base/interrupt.h"
#include "base/text.h"
#include "base/version.h"
#include "files/gguf_split.h"
#include "pipeline/certificate.h"
#include "pipeline/mix.h"
#include "pipeline/rounding_error.h"
#include "pipeline/tensor_encoder.h"
#include "pipeline/weights_run.h"

namespace fewbits {
namespace {

constexpr int kQuantizationVersion = 2;  // general.quantization_version of the K-quants as they are

const Format& format_named_for(const std::string& name, std::string_view option) {
  try {
    return format_named(name);
  } catch (const Error& error) {
    throw Error(fmt::format("{}: {}", option, error.what()));
  }
}

class FormatChoice {
 public:
  FormatChoice(const Model& model, const QuantizeOptions& options)
      : model_(model),
        options_(options),
        mix_(mix_named(options.emulate.empty() ? options.to : "F16")),
        emulated_(options.emulate.empty() ? nullptr
                                          : &format_named_for(options.emulate, "--emulate")) {
    for (const auto& [glob, format] : options.tensor_formats) {
      overrides_.emplace_back(glob, &format_named_for(format, "--tensor"));
    }
    used_.resize(overrides_.size());
  }

  const Mix& mix() const { return mix_; }

  void refuse_unused_globs() const {
    for (size_t i = 0; i < overrides_.size(); ++i) {
      if (!used_[i]) {
        throw Error(fmt::format("--tensor: '{}' matches no tensor of {} (names look like {})",
                                overrides_[i].first, model_.path.string(),
                                model_.weights.front().gguf_name));
      }
    }
  }

  PlannedWeight plan(const Weight& weight, std::vector<std::string>& warnings) {
    const Format& chosen = choose(weight, warnings);
    const bool fixed = overridden(weight) != nullptr;
    if (emulated_ == nullptr || !weight.is_matrix() || chosen.is_float()) {
      return {.weight = &weight, .format = &chosen, .fixed = fixed};
    }
    return {&weight, &format_named("F16"), &chosen, fixed};
  }

 private:
  /// The format for one weight, and in `warnings` what the user should know about it.
  const Format& choose(const Weight& weight, std::vector<std::string>& warnings) {
    if (!weight.is_matrix()) return vector_format(weight);
    const int64_t columns = weight.columns();
    const Format& wanted = wanted_format(weight, columns);
    if (!wanted.can_encode()) {
      throw Error(fmt::format("{}: {} can be read, not written", weight.gguf_name, wanted.name));
    }
    const Format& fitting = format_for_columns(wanted, columns);
    if (&fitting != &wanted) {
      warnings.push_back(
          fmt::format("{}: rows of {} are no whole blocks of {} ({} values): {} instead",
                      weight.gguf_name, columns, wanted.name, wanted.block_values, fitting.name));
    }
    if (fitting.needs_importance && weight.layer >= 0 && !options_.weighted) {
      throw Error(
          fmt::format("{}: {} needs to know which columns matter: give --imatrix FILE (from "
                      "fewbits calibrate or llama-imatrix) or --calibrate TEXT",
                      weight.gguf_name, fitting.name));
    }
    return fitting;
  }

  /// Norms, biases and routers are few and sensitive: F32, as every GGUF has them.
  static const Format& vector_format(const Weight& weight) {
    const Format& stored = weight.format();
    return stored.is_float() ? format_named("F32") : stored;
  }

  /// Null where the user asked for nothing by the weight's name.
  const Format* overridden(const Weight& weight) {
    const Format* last = nullptr;
    for (size_t i = 0; i < overrides_.size(); ++i) {
      if (!glob_match(overrides_[i].first, weight.gguf_name)) continue;
      last = overrides_[i].second;
      used_[i] = true;
    }
    return last;
  }

  const Format& wanted_format(const Weight& weight, int64_t columns) {
    if (const Format* overriding = overridden(weight)) return *overriding;
    const bool tied = model_.config.tied_embeddings;
    if (weight.role == Role::kEmbedding && !options_.embedding_format.empty()) {
      return format_named_for(options_.embedding_format, "--embedding");
    }
    const bool output = weight.role == Role::kOutput || (weight.role == Role::kEmbedding && tied);
    if (output && !options_.output_format.empty()) {
      return format_named_for(options_.output_format, "--output");
    }
    if (emulated_ != nullptr) {
      const bool outside = output || weight.role == Role::kEmbedding;
      return outside && !options_.pure ? format_named("F16") : *emulated_;
    }
    if (options_.pure) return format_named(mix_.base);
    return mix_format(mix_, weight.role, weight.layer, columns, {.config = &model_.config});
  }

  const Model& model_;
  const QuantizeOptions& options_;
  const Mix& mix_;
  const Format* emulated_;  // null: what is rounded to is written
  std::vector<std::pair<std::string, const Format*>> overrides_;
  std::vector<bool> used_;
};

/// "Q4_1 (211), Q6_K (1)": the block formats that will be rounded a second time.
std::string formats_rounded_again(const QuantizePlan& plan) {
  std::vector<std::pair<const Format*, int>> counts;
  for (const PlannedWeight& planned : plan.weights) {
    const Format* stored = &planned.weight->format();
    const Format* format = &planned.rounded_format();
    if (stored->is_float() || stored == format || format->is_float()) continue;
    auto found = std::find_if(counts.begin(), counts.end(),
                              [&](const auto& count) { return count.first == stored; });
    if (found == counts.end()) found = counts.insert(counts.end(), {stored, 0});
    ++found->second;
  }
  std::vector<std::string> parts;
  for (const auto& [format, count] : counts) {
    parts.push_back(
        fmt::format("{} ({} tensors, {:.2f} bits)", format->name, count, format->bits_per_value()));
  }
  return join(parts);
}

/// Four digits are enough to be told, and keep a certificate of a thousand tensors short.
double rounded(double value) {
  return std::stod(fmt::format("{:.3e}", value));
}

/// A GGUF, whole or in several files.
class GgufOutput : public WeightOutput {
 public:
  GgufOutput(const QuantizePlan& plan, const QuantizeRun& run, const std::filesystem::path& out,
             ThreadPool& pool)
      : plan_(plan),
        run_(run),
        pool_(pool),
        writer_(out, plan.metadata, plan.tensors(),
                {.file_bytes = run.file_bytes,
                 .lifetime = run.journal != nullptr ? OutputFile::Lifetime::kResumed
                                                    : OutputFile::Lifetime::kProcess}) {}

  int64_t bytes(size_t weight) const override { return writer_.bytes(weight); }
  void read(size_t weight, int64_t offset, std::span<std::byte> out) const override {
    writer_.read(weight, offset, out);
  }
  bool holds(size_t weights) const override { return writer_.holds(weights); }
  void resume(std::span<const WrittenWeight> weights) override { writer_.resume(weights.size()); }
  void sync() override { writer_.sync(); }
  void keep() override { writer_.keep(); }

  WrittenWeight write(size_t weight, const RoundedWeight& rounded, const Pieces& pieces) override {
    const int64_t rows = plan_.weights[weight].weight->rows();
    TensorEncoder encoder(plan_.weights[weight], rounded, run_, pool_);
    for (int64_t row = 0; row < rows; row += encoder.rows_per_band()) {
      throw_if_interrupted();
      const auto band = encoder.encode(row, std::min(encoder.rows_per_band(), rows - row));
      writer_.append(weight, band);
      pieces(band);
    }
    return {encoder.total()};
  }

  SplitGgufWriter& writer() { return writer_; }

 private:
  const QuantizePlan& plan_;
  const QuantizeRun& run_;
  ThreadPool& pool_;
  SplitGgufWriter writer_;
};

/// Last the certificate, then the name.
void finish_gguf(const QuantizePlan& plan, const QuantizeRun& run, std::string data_hash,
                 const QuantizeResult& result, SplitGgufWriter& writer) {
  if (!plan.certificate.is_null()) {
    Json certificate = completed_certificate(plan, result, std::move(data_hash));
    if (run.measure) {
      const SplitGgufWriter::Readable file(writer);
      certificate["measured"] = run.measure(file.path());
    }
    writer.replace_last_string(padded(certificate, plan.metadata.string(kCertificateKey)->size()));
  }
  if (run.verify) writer.verify_rest();
  writer.commit();
}

}  // namespace

std::vector<PlannedTensor> QuantizePlan::tensors() const {
  std::vector<PlannedTensor> tensors;
  for (const PlannedWeight& planned : weights) {
    tensors.push_back({planned.weight->gguf_name, planned.format, planned.weight->shape});
  }
  return tensors;
}

double bits_per_weight(int64_t bytes, const QuantizePlan& plan) {
  int64_t values = 0;
  for (const PlannedWeight& planned : plan.weights) values += planned.weight->values();
  return 8.0 * static_cast<double>(bytes) / static_cast<double>(values);
}

QuantizeResult result_of(const Model& model, const QuantizePlan& plan,
                         const std::vector<WrittenWeight>& written) {
  check(written.size() == plan.weights.size());
  QuantizeResult result;
  result.bytes_in = model.store.file_bytes();
  RoundingError all;
  for (size_t i = 0; i < written.size(); ++i) {
    const Weight& weight = *plan.weights[i].weight;
    const Format& format = plan.weights[i].rounded_format();
    all.add(written[i].error);
    result.tensors.push_back({weight.gguf_name, &format,
                              weight.rows() * row_bytes(*plan.weights[i].format, weight.columns()),
                              written[i].error.relative()});
  }
  result.relative_error = all.relative();
  return result;
}

QuantizePlan plan_quantize(const Model& model, const QuantizeOptions& options) {
  QuantizePlan plan;
  FormatChoice choice(model, options);
  for (const Weight& weight : model.weights) {
    plan.weights.push_back(choice.plan(weight, plan.warnings));
  }
  choice.refuse_unused_globs();
  if (const std::string formats = formats_rounded_again(plan); !formats.empty()) {
    plan.warnings.push_back(fmt::format(
        "{} is already quantized: {}. What that rounding lost stays lost, and this one adds to it; "
        "start from the 16-bit model where you can",
        model.path.string(), formats));
  }
  plan.metadata = gguf_metadata(model);
  plan.metadata.erase(kCertificateKey);  // the source's own, if it has one
  plan.metadata.set_uint32("general.file_type", choice.mix().file_type);
  plan.metadata.set_uint32("general.quantization_version", kQuantizationVersion);
  plan.bytes_out = gguf_file_bytes(plan.metadata, plan.tensors());
  return plan;
}

void add_certificate(QuantizePlan& plan, const std::vector<FileHash>& source, Json recipe,
                     bool measured) {
  constexpr double kWidestNumber = 1.234e-300;  // as text
  Json& certificate = plan.certificate;
  certificate = {{"schema", kCertificateSchema},     {"fewbits", program_version()},
                 {"source", to_json(source)},        {"recipe", std::move(recipe)},
                 {"bits_per_weight", kWidestNumber}, {"relative_error", kWidestNumber},
                 {"tensors", Json::array()},         {"data_sha256", std::string(64, '0')}};
  for (const PlannedWeight& planned : plan.weights) {
    certificate["tensors"].push_back({{"name", planned.weight->gguf_name},
                                      {"format", std::string(planned.rounded_format().name)},
                                      {"relative_error", kWidestNumber}});
  }
  if (measured) certificate["measured"] = nullptr;
  const size_t length = certificate.dump().size() + (measured ? kMostMeasuredBytes : 0);
  plan.metadata.erase(kCertificateKey);  // it is the last entry that can be filled in later
  plan.metadata.set_string(kCertificateKey, std::string(length, ' '));
  plan.bytes_out = gguf_file_bytes(plan.metadata, plan.tensors());
}

Json completed_certificate(const QuantizePlan& plan, const QuantizeResult& result,
                           std::string data_hash) {
  Json certificate = plan.certificate;
  certificate["bits_per_weight"] = rounded(result.bits_per_weight);
  certificate["relative_error"] = rounded(result.relative_error);
  for (size_t i = 0; i < result.tensors.size(); ++i) {
    certificate["tensors"][i]["format"] = std::string(result.tensors[i].format->name);
    certificate["tensors"][i]["relative_error"] = rounded(result.tensors[i].relative_error);
  }
  certificate["data_sha256"] = std::move(data_hash);
  return certificate;
}

void check_output(const std::filesystem::path& model, const std::filesystem::path& out) {
  if (lower_ascii(out.extension().string()) != ".gguf") {
    throw Error(fmt::format("{}: only GGUF files are written; give a name that ends in .gguf",
                            out.string()));
  }
  bool same = same_file(model, out);
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(model, ignored)) {
    // A folder is no source of GGUF files: one in it is an earlier output and may be replaced.
    const bool source = entry.path().extension() != ".gguf";
    same |= source && same_file(entry.path(), out);
  }
  if (same) {
    throw Error(fmt::format("{}: the output is the input; give another name", out.string()));
  }
}

QuantizeResult run_quantize(const Model& model, const QuantizePlan& plan, const QuantizeRun& run,
                            const std::filesystem::path& out, ThreadPool& pool) {
  check_output(model.path, out);
  GgufOutput output(plan, run, out, pool);
  WeightsRun weights(plan, run, out, output);
  QuantizeResult result;
  weights.finish([&] {
    result = result_of(model, plan, weights.written());
    result.bytes_aside = weights.bytes_aside();
    result.files = output.writer().files();
    result.bytes_out = output.writer().file_bytes();
    result.bits_per_weight = bits_per_weight(result.bytes_out, plan);
    finish_gguf(plan, run, weights.data_sha256(), result, output.writer());
  });
  return result;
}

}  // namespace fewbits
