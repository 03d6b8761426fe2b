#include "pipeline/quantize.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/checked_math.h"
#include "base/error.h"
#include "base/interrupt.h"
#include "base/sha256.h"
#include "base/text.h"
#include "base/version.h"
#include "pipeline/certificate.h"
#include "pipeline/mix.h"
#include "pipeline/rounding_error.h"
#include "pipeline/tensor_outer.h"

namespace fewbits {
namespace {

// A band is what is in memory at once: enough rows to keep every thread busy, small enough not to
// matter. A task is what one thread encodes at once. Both depend on sizes alone, so the bytes do
// not depend on the threads.
constexpr int64_t kBandValues = int64_t{1} << 22;
constexpr int64_t kTaskValues = int64_t{1} << 15;

// Above this, scales kept as halves overflow; only F32 and BF16 hold such weights.
constexpr float kLargestHalf = 65504.0f;
constexpr int kQuantizationVersion = 2;  // general.quantization_version of the K-quants as they are

bool holds_any_float(const Format& format) {
  return format.name == "F32" || format.name == "BF16";
}

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

/// One tensor on its way from the source to the file.
class TensorEncoder {
 public:
  TensorEncoder(const PlannedWeight& planned, const RoundedWeight& rounded, const QuantizeRun& run,
                ThreadPool& pool)
      : weight_(*planned.weight),
        format_(*planned.format),
        rounding_(planned.rounded_format()),
        outer_(tensor_outer(rounding_, weight_, pool)),
        rounded_(rounded.bytes),
        search_(run.search),
        importance_(importance_of(weight_, run.importance)),
        pool_(pool),
        columns_(weight_.columns()),
        rows_per_task_(std::max<int64_t>(1, kTaskValues / columns_)),
        rows_per_band_(round_up(std::max<int64_t>(1, kBandValues / columns_), rows_per_task_)),
        total_{rounded.error, rounded.square} {}

  int64_t rows_per_band() const { return rows_per_band_; }

  /// Rows [begin, begin + count) of the output, encoded. Valid until the next call.
  std::span<const std::byte> encode(int64_t begin, int64_t count) {
    const auto row_size = static_cast<size_t>(row_bytes(format_, columns_));
    band_.resize(static_cast<size_t>(count) * row_size);
    const int64_t tasks = divide_up(count, rows_per_task_);
    std::vector<RoundingError> sums(static_cast<size_t>(tasks));
    pool_.run(tasks, [&](int64_t task, int) {
      const int64_t first = task * rows_per_task_;
      const int64_t rows = std::min(rows_per_task_, count - first);
      std::byte* out = band_.data() + static_cast<size_t>(first) * row_size;
      sums[static_cast<size_t>(task)] = encode_rows_of_task(begin + first, rows, out);
    });
    for (const RoundingError& part : sums) {  // in order: the same total for any thread count
      total_.add(part);
    }
    weight_.drop_pages();
    return band_;
  }

  const RoundingError& total() const { return total_; }

 private:
  /// Our row of a row of the output.
  int64_t source_row(int64_t gguf_row) const {
    const auto& map = weight_.gguf_rows;
    return map.empty() ? gguf_row : int64_t{map[static_cast<size_t>(gguf_row)]};
  }

  RoundingError encode_rows_of_task(int64_t begin, int64_t rows, std::byte* out) const {
    const auto columns = static_cast<size_t>(columns_);
    std::vector<float> values(static_cast<size_t>(rows) * columns);
    for (int64_t i = 0; i < rows; ++i) {
      float* row = values.data() + static_cast<size_t>(i) * columns;
      weight_.read_row(source_row(begin + i), row);
      check_range(row, begin + i);
    }
    if (rounded_.empty() && is_copied()) {
      copy_rows(begin, rows, out);
      return {0, rounding_error(values, values).square};
    }
    if (&rounding_ == &format_) {
      round_rows(values, begin, rows, out);
      return rounded_.empty() ? rounding_error(values, decoded(out, rows)) : RoundingError();
    }
    std::vector<std::byte> bytes(static_cast<size_t>(rows * row_bytes(rounding_, columns_)));
    round_rows(values, begin, rows, bytes.data());
    const std::vector<float> emulated = decoded(bytes.data(), rows);
    encode_rows(format_, emulated.data(), rows, columns_, nullptr, search_, out);
    return rounded_.empty() ? rounding_error(values, emulated) : RoundingError();
  }

  bool is_copied() const {
    return &weight_.format() == &format_ && &rounding_ == &format_ && weight_.has_row_bytes();
  }

  /// What a calibrated method has rounded already is in total_ with what it lost.
  void round_rows(const std::vector<float>& values, int64_t begin, int64_t rows,
                  std::byte* out) const {
    if (rounded_.empty()) return encode_by_matrix(begin, rows, values.data(), out);
    const int64_t row_size = row_bytes(rounding_, columns_);
    std::copy_n(rounded_.begin() + begin * row_size, rows * row_size, out);
  }

  std::vector<float> decoded(const std::byte* bytes, int64_t rows) const {
    std::vector<float> values(static_cast<size_t>(rows * columns_));
    decode_rows(rounding_, bytes, rows, columns_, values.data());
    return values;
  }

  /// Rows of different experts have different importance.
  void encode_by_matrix(int64_t begin, int64_t rows, const float* values, std::byte* out) const {
    const int64_t matrices = std::max<int64_t>(1, std::ssize(importance_));
    const int64_t rows_of_matrix = weight_.rows() / matrices;
    for (int64_t i = 0; i < rows;) {
      const int64_t matrix = (begin + i) / rows_of_matrix;
      const int64_t count = std::min(rows - i, (matrix + 1) * rows_of_matrix - begin - i);
      const float* importance =
          importance_.empty() ? nullptr : importance_[static_cast<size_t>(matrix)].data();
      encode_rows(rounding_, values + i * columns_, count, columns_, importance, search_,
                  out + i * row_bytes(rounding_, columns_), &outer_);
      i += count;
    }
  }

  /// By matrix; empty where nothing is known.
  static std::vector<std::vector<float>> importance_of(const Weight& weight,
                                                       const Importance* importance) {
    if (importance == nullptr || !weight.is_matrix()) return {};
    const auto found = importance->entries.find(weight.gguf_name);
    if (found == importance->entries.end()) return {};
    const ImportanceEntry& entry = found->second;
    const int64_t experts = weight.shape.size() > 2 ? weight.shape.front() : 1;
    if (entry.columns() != weight.columns() ||
        (entry.matrices() != 1 && entry.matrices() != experts)) {
      throw Error(fmt::format(
          "importance of '{}': {} matrices of {} columns, but the model has {} "
          "of {}; it was gathered from another model",
          weight.gguf_name, entry.matrices(), entry.columns(), experts, weight.columns()));
    }
    std::vector<std::vector<float>> means;
    for (int64_t i = 0; i < entry.matrices(); ++i) means.push_back(entry.means(i));
    return means;
  }

  void check_range(const float* row, int64_t index) const {
    const float limit = holds_any_float(format_) ? INFINITY : kLargestHalf;
    for (int64_t j = 0; j < columns_; ++j) {
      const float magnitude = std::abs(row[j]);
      if (magnitude <= limit && magnitude < INFINITY) continue;
      const std::string place = fmt::format("tensor '{}': row {} column {} is {}",
                                            weight_.tensor->name, index, j, row[j]);
      if (!std::isfinite(row[j])) throw Error(place + "; a model with such weights is broken");
      throw Error(fmt::format("{}, more than {} holds; keep this tensor in F32 or BF16 (--tensor)",
                              place, format_.name));
    }
  }

  void copy_rows(int64_t begin, int64_t rows, std::byte* out) const {
    std::vector<std::byte> scratch;
    for (int64_t i = 0; i < rows; ++i) {
      const auto row = weight_.row_bytes(source_row(begin + i), scratch);
      out = std::copy(row.begin(), row.end(), out);
    }
  }

  const Weight& weight_;
  const Format& format_;
  const Format& rounding_;
  Outer outer_;
  std::span<const std::byte> rounded_;
  Search search_;
  std::vector<std::vector<float>> importance_;  ///< [matrix][column]
  ThreadPool& pool_;
  int64_t columns_;
  int64_t rows_per_task_;
  int64_t rows_per_band_;
  std::vector<std::byte> band_;
  RoundingError total_;
};

/// Four digits are enough to be told, and keep a certificate of a thousand tensors short.
double rounded(double value) {
  return std::stod(fmt::format("{:.3e}", value));
}

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
  GgufWriter writer(out, plan.metadata, plan.tensors());
  QuantizeResult result;
  result.bytes_in = model.store.file_bytes();
  result.bytes_out = plan.bytes_out;
  Sha256 hash;
  RoundingError all;
  int64_t values = 0, bytes_done = 0;
  for (const PlannedWeight& planned : plan.weights) {
    const Weight& weight = *planned.weight;
    const auto rounded = run.encoder ? run.encoder(planned) : RoundedWeight();
    TensorEncoder encoder(planned, rounded, run, pool);
    int64_t bytes = 0;
    for (int64_t row = 0; row < weight.rows(); row += encoder.rows_per_band()) {
      throw_if_interrupted();
      const auto band = encoder.encode(row, std::min(encoder.rows_per_band(), weight.rows() - row));
      writer.append(band);
      if (!plan.certificate.is_null()) hash.update(band);
      bytes += static_cast<int64_t>(band.size());
      bytes_done += static_cast<int64_t>(band.size());
      if (run.progress) run.progress(bytes_done, plan.bytes_out, planned.weight->gguf_name);
    }
    values += weight.values();
    all.add(encoder.total());
    result.tensors.push_back(
        {planned.weight->gguf_name, &planned.rounded_format(), bytes, encoder.total().relative()});
  }
  result.bits_per_weight =
      8.0 * static_cast<double>(result.bytes_out) / static_cast<double>(values);
  result.relative_error = all.relative();
  if (!plan.certificate.is_null()) {
    Json certificate = completed_certificate(plan, result, hash.finish());
    if (run.measure) certificate["measured"] = run.measure(writer.temporary());
    writer.replace_last_string(padded(certificate, plan.metadata.string(kCertificateKey)->size()));
  }
  writer.commit();
  return result;
}

}  // namespace fewbits
