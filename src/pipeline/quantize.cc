#include "pipeline/quantize.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/checked_math.h"
#include "base/error.h"
#include "base/interrupt.h"
#include "base/mapped_file.h"
#include "base/sha256.h"
#include "base/text.h"
#include "base/timing.h"
#include "base/version.h"
#include "pipeline/certificate.h"
#include "pipeline/mix.h"
#include "pipeline/rounding_error.h"
#include "pipeline/tensor_encoder.h"

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

/// A run from the header to the rename, with what an earlier run of the same has done taken over.
class GgufRun {
 public:
  struct Parts {
    const Model& model;
    const QuantizePlan& plan;
    const QuantizeRun& run;
    ThreadPool& pool;
  };

  GgufRun(const Parts& parts, const std::filesystem::path& out)
      : model_(parts.model),
        plan_(parts.plan),
        run_(parts.run),
        pool_(parts.pool),
        writer_(out, plan_.metadata, plan_.tensors(),
                run_.journal != nullptr ? OutputFile::Lifetime::kResumed
                                        : OutputFile::Lifetime::kProcess) {
    result_.bytes_in = model_.store.file_bytes();
    result_.bytes_out = plan_.bytes_out;
  }

  QuantizeResult finish() {
    try {
      if (run_.journal != nullptr) resume();
      for (size_t i = done(); i < plan_.weights.size(); ++i) {
        write(plan_.weights[i]);
        if (ends_layer(i)) checkpoint();
      }
      complete();
    } catch (const Interrupted& error) {
      throw Interrupted(kept(error.what()));
    } catch (const DiskError& error) {
      throw DiskError(kept(error.what()));
    }
    return std::move(result_);
  }

 private:
  size_t done() const { return sums_.size(); }

  bool ends_layer(size_t i) const {
    return i + 1 == plan_.weights.size() ||
           plan_.weights[i].weight->layer != plan_.weights[i + 1].weight->layer;
  }

  void add(const PlannedWeight& planned, const RoundingError& sum) {
    const Weight& weight = *planned.weight;
    const int64_t bytes = weight.rows() * row_bytes(*planned.format, weight.columns());
    bytes_done_ += bytes;
    sums_.push_back(sum);
    result_.tensors.push_back({weight.gguf_name, &planned.rounded_format(), bytes, sum.relative()});
  }

  void tell(int64_t bytes, const Weight& weight) const {
    if (run_.progress) run_.progress(bytes, plan_.bytes_out, weight.gguf_name);
  }

  void write(const PlannedWeight& planned) {
    const Weight& weight = *planned.weight;
    const auto rounded = run_.encoder ? run_.encoder(planned) : RoundedWeight();
    TensorEncoder encoder(planned, rounded, run_, pool_);
    int64_t bytes = bytes_done_;
    for (int64_t row = 0; row < weight.rows(); row += encoder.rows_per_band()) {
      throw_if_interrupted();
      const auto band = encoder.encode(row, std::min(encoder.rows_per_band(), weight.rows() - row));
      writer_.append(band);
      hash_.update(band);
      tell(bytes += std::ssize(band), weight);
    }
    add(planned, encoder.total());
  }

  /// What is done now is done, whatever happens. Layers that cost much are always worth a line of
  /// the journal; of others there is one now and then.
  void checkpoint() {
    constexpr double kSecondsBetween = 0.5;
    if (run_.journal == nullptr) return;
    if (!run_.encoder && seconds_now() - last_checkpoint_ < kSecondsBetween) return;
    writer_.sync();
    Json record = {{"tensors", done()}, {"sha256", hash_.so_far()}, {"errors", Json::array()}};
    for (size_t i = journaled_; i < done(); ++i) {
      record["errors"].push_back({sums_[i].error, sums_[i].square});
    }
    run_.journal->append(record);
    journaled_ = done();
    last_checkpoint_ = seconds_now();
  }

  /// Takes over what the journal says and the file holds.
  void resume() {
    size_t records = 0;
    const MappedFile file = MappedFile::open(writer_.temporary());
    for (const Json& record : run_.journal->records()) {
      if (!take_over(record, file)) break;
      ++records;
    }
    run_.journal->truncate(records);
    journaled_ = done();
    if (run_.restore) restore_layers(file);
    writer_.resume(done());
  }

  /// False where the record is none of ours or the bytes are not there as it says.
  bool take_over(const Json& record, const MappedFile& file) {
    const auto& weights = plan_.weights;
    const int64_t count = json_integer_or(record, "tensors", 0, "journal");
    if (count <= std::ssize(sums_) || count > std::ssize(weights)) return false;
    const auto end = static_cast<size_t>(count);
    const std::vector<RoundingError> sums = sums_of(record);
    if (sums.size() != end - done() || !writer_.holds(end)) return false;
    Sha256 hash(hash_);
    for (size_t i = done(); i < end; ++i) {
      const auto bytes = bytes_of(i, file);
      hash.update(bytes);
      file.drop(bytes);
    }
    if (json_string_or(record, "sha256", "", "journal") != hash.so_far()) return false;
    hash_ = std::move(hash);
    for (const RoundingError& sum : sums) add(weights[done()], sum);
    return true;
  }

  static std::vector<RoundingError> sums_of(const Json& record) {
    std::vector<RoundingError> sums;
    const auto errors = record.find("errors");
    if (errors == record.end() || !errors->is_array()) return sums;
    for (const Json& pair : *errors) {
      if (!pair.is_array() || pair.size() != 2 || !pair[0].is_number() || !pair[1].is_number()) {
        return {};
      }
      sums.push_back({pair[0].get<double>(), pair[1].get<double>()});
    }
    return sums;
  }

  std::span<const std::byte> bytes_of(size_t tensor, const MappedFile& file) const {
    const PlannedWeight& planned = plan_.weights[tensor];
    const int64_t size =
        planned.weight->rows() * row_bytes(*planned.format, planned.weight->columns());
    return file.bytes().subspan(static_cast<size_t>(writer_.offset(tensor)),
                                static_cast<size_t>(size));
  }

  void restore_layers(const MappedFile& file) {
    const RoundedBytes bytes = [&](const Weight& weight) {
      size_t tensor = 0;
      while (plan_.weights[tensor].weight != &weight) ++tensor;
      return bytes_of(tensor, file);
    };
    for (size_t i = 0; i < done(); ++i) {
      const Weight& weight = *plan_.weights[i].weight;
      if (weight.layer < 0 || !ends_layer(i)) continue;
      throw_if_interrupted();
      tell(writer_.offset(i), weight);
      run_.restore(weight.layer, bytes);
      file.drop(file.bytes());
    }
  }

  void complete() {
    int64_t values = 0;
    RoundingError all;
    for (size_t i = 0; i < done(); ++i) {
      values += plan_.weights[i].weight->values();
      all.add(sums_[i]);
    }
    result_.bits_per_weight =
        8.0 * static_cast<double>(result_.bytes_out) / static_cast<double>(values);
    result_.relative_error = all.relative();
    if (!plan_.certificate.is_null()) {
      Json certificate = completed_certificate(plan_, result_, hash_.finish());
      if (run_.measure) certificate["measured"] = run_.measure(writer_.temporary());
      writer_.replace_last_string(
          padded(certificate, plan_.metadata.string(kCertificateKey)->size()));
    }
    writer_.commit();
  }

  /// Keeps what can be gone on from, and says so behind `message`.
  std::string kept(std::string_view message) {
    if (run_.journal == nullptr || run_.journal->records().empty()) {
      return fmt::format("{}; nothing was kept", message);
    }
    writer_.keep();
    run_.journal->keep();
    return fmt::format(
        "{}; {} of {} tensors are done and kept: the same command goes on there, "
        "with --restart it begins anew",
        message, journaled_, plan_.weights.size());
  }

  const Model& model_;
  const QuantizePlan& plan_;
  const QuantizeRun& run_;
  ThreadPool& pool_;
  GgufWriter writer_;
  Sha256 hash_;  ///< of the tensors' bytes
  std::vector<RoundingError> sums_;
  int64_t bytes_done_ = 0;
  size_t journaled_ = 0;
  double last_checkpoint_ = 0;
  QuantizeResult result_;
};

}  // namespace

std::vector<PlannedTensor> QuantizePlan::tensors() const {
  std::vector<PlannedTensor> tensors;
  for (const PlannedWeight& planned : weights) {
    tensors.push_back({planned.weight->gguf_name, planned.format, planned.weight->shape});
  }
  return tensors;
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
  return GgufRun({model, plan, run, pool}, out).finish();
}

}  // namespace fewbits
