#include "pipeline/model_folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "base/checked_math.h"
#include "base/error.h"
#include "base/interrupt.h"
#include "base/text.h"
#include "files/layouts/layout.h"
#include "pipeline/rounding_error.h"
#include "pipeline/tensor_outer.h"

namespace fewbits {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kBandValues = int64_t{1} << 22;
constexpr int64_t kTaskValues = int64_t{1} << 15;
constexpr std::string_view kWeightSuffix = ".weight";

// What a model folder holds besides config and weights. Taken over where the source has it.
constexpr std::array kTakenOver = {
    "tokenizer.json",      "tokenizer_config.json",   "special_tokens_map.json",
    "added_tokens.json",   "tokenizer.model",         "vocab.json",
    "merges.txt",          "generation_config.json",  "chat_template.json",
    "chat_template.jinja", "preprocessor_config.json"};

std::string module_of(const StoredTensor& tensor) {
  std::string name = tensor.name;
  if (!name.ends_with(kWeightSuffix)) {
    throw Error(
        fmt::format("tensor '{}': only a layer's '.weight' can be written in this layout", name));
  }
  name.resize(name.size() - kWeightSuffix.size());
  return name;
}

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
    if (!linear || planned.emulated || !weight.tensor->name.ends_with(kWeightSuffix)) continue;
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

/// Where each stored row lies in the bytes of a calibrated method, which has GGUF's order.
std::vector<int64_t> gguf_row_of_stored(const Weight& weight) {
  std::vector<int64_t> result(static_cast<size_t>(weight.rows()));
  const auto in = [](const std::vector<int32_t>& map, int64_t row) {
    return map.empty() ? row : int64_t{map[static_cast<size_t>(row)]};
  };
  for (int64_t row = 0; row < weight.rows(); ++row)
    result[static_cast<size_t>(in(weight.stored_rows, in(weight.gguf_rows, row)))] = row;
  return result;
}

/// Rounds the rows of one weight, in the order in which they are stored.
class RowRounder {
 public:
  RowRounder(const PlannedWeight& planned, const QuantizeRun& run, ThreadPool& pool)
      : weight_(*planned.weight),
        format_(*planned.emulated),
        outer_(tensor_outer(format_, weight_, pool)),
        search_(run.search),
        pool_(pool) {
    if (run.encoder) rounded_ = run.encoder(planned).bytes;
    if (!rounded_.empty()) place_ = gguf_row_of_stored(weight_);
  }

  std::span<const std::byte> rows(int64_t begin, int64_t count) {
    const int64_t columns = weight_.columns(), stride = row_bytes(format_, columns);
    const int64_t rows_per_task = std::max<int64_t>(1, kTaskValues / columns);
    band_.resize(static_cast<size_t>(count * stride));
    std::vector<RoundingError> sums(static_cast<size_t>(divide_up(count, rows_per_task)));
    pool_.run(std::ssize(sums), [&](int64_t task, int) {
      const int64_t end = std::min(count, (task + 1) * rows_per_task);
      for (int64_t row = task * rows_per_task; row < end; ++row) {
        sums[static_cast<size_t>(task)].add(round_row(begin + row, band_.data() + row * stride));
      }
    });
    for (const RoundingError& part : sums) {  // in order: the same for any number of threads
      total_.add(part);
    }
    return band_;
  }

  const RoundingError& total() const { return total_; }

 private:
  RoundingError round_row(int64_t row, std::byte* out) const {
    const int64_t columns = weight_.columns(), stride = row_bytes(format_, columns);
    std::vector<float> values(static_cast<size_t>(columns)), stored(values.size());
    std::vector<std::byte> scratch;
    decode(weight_.format(), weight_.tensor->row(row, scratch).data(), columns, values.data());
    if (rounded_.empty()) {
      encode_rows(format_, values.data(), 1, columns, nullptr, search_, out, &outer_);
    } else {
      std::copy_n(rounded_.begin() + place_[static_cast<size_t>(row)] * stride, stride, out);
    }
    decode(format_, out, columns, stored.data());
    for (const float value : values) {
      if (std::isfinite(value)) continue;
      throw Error(fmt::format("tensor '{}': row {} has a value that is no finite number",
                              weight_.tensor->name, row));
    }
    return rounding_error(values, stored);
  }

  const Weight& weight_;
  const Format& format_;
  Outer outer_;
  Search search_;
  ThreadPool& pool_;
  std::span<const std::byte> rounded_;
  std::vector<int64_t> place_;
  std::vector<std::byte> band_;
  RoundingError total_;
};

/// The weights file: what is planned, and the bytes one weight after the other.
class WeightsFile {
 public:
  WeightsFile(const Model& model, const QuantizePlan& plan, const Layout& layout,
              const fs::path& path)
      : model_(model), layout_(layout), writer_(path, entries(model, plan, layout)) {}

  void copy(const Weight& weight) {
    for (const StoredTensor* tensor : stored(model_, weight)) {
      std::vector<std::byte> scratch;
      for (int64_t row = 0; row < tensor->view.rows(); ++row)
        writer_.append(tensor->row(row, scratch));
      tensor->drop_pages();
    }
  }

  /// Returns its sums of squares.
  RoundingError round(const PlannedWeight& planned, const QuantizeRun& run, ThreadPool& pool) {
    const Weight& weight = *planned.weight;
    RowRounder rounder(planned, run, pool);
    const auto tensor = tensor_of(planned, layout_);
    const int64_t band = std::max<int64_t>(1, kBandValues / weight.columns());
    for (int64_t row = 0; row < weight.rows(); row += band) {
      throw_if_interrupted();
      const int64_t count = std::min(band, weight.rows() - row);
      writer_.append(tensor->append_rows(rounder.rows(row, count)));
    }
    writer_.append(tensor->rest());
    weight.drop_pages();
    return rounder.total();
  }

  int64_t bytes() const { return writer_.file_bytes(); }
  void commit() { writer_.commit(); }

 private:
  static std::unique_ptr<LayoutTensor> tensor_of(const PlannedWeight& planned,
                                                 const Layout& layout) {
    const Weight& weight = *planned.weight;
    return layout.tensor(*planned.emulated, module_of(*weight.tensor), weight.rows(),
                         weight.columns());
  }

  /// Not those that follow from the config.
  static std::vector<const StoredTensor*> stored(const Model& model, const Weight& weight) {
    if (!weight.parts.empty()) return weight.parts;
    if (model.store.find(weight.tensor->name) != weight.tensor) return {};
    return {weight.tensor};
  }

  static std::vector<SafetensorsEntry> entries(const Model& model, const QuantizePlan& plan,
                                               const Layout& layout) {
    std::vector<SafetensorsEntry> all;
    for (const PlannedWeight& planned : plan.weights) {
      if (planned.emulated) {
        for (SafetensorsEntry& entry : tensor_of(planned, layout)->entries())
          all.push_back(std::move(entry));
        continue;
      }
      for (const StoredTensor* tensor : stored(model, *planned.weight)) {
        all.push_back({tensor->name, std::string(tensor->view.format->name), tensor->view.shape,
                       *tensor_bytes(*tensor->view.format, tensor->view.shape)});
      }
    }
    return all;
  }

  const Model& model_;
  const Layout& layout_;
  SafetensorsWriter writer_;
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

void write_card(const Model& model, const Format& format, const QuantizeResult& result,
                const NewFolder& folder) {
  folder.write_text(
      "README.md",
      fmt::format("---\ntags:\n- compressed-tensors\n---\n# {} in {}\n\n"
                  "Quantized by fewbits from `{}`: the linear layers are in {} ({:.2f} bits per "
                  "weight in all), the rest is as it was. Relative error of the weights: {:.2e} "
                  "(sum of squared errors over sum of squares).\n\n"
                  "The layout is compressed-tensors': vLLM, SGLang and transformers load it.\n",
                  model.path.filename().string(), format.name, model.path.filename().string(),
                  format.name, result.bits_per_weight, result.relative_error));
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
  WeightsFile file(model, plan, layout, folder / "model.safetensors");
  QuantizeResult result;
  result.bytes_in = model.store.file_bytes();
  result.bytes_out = file.bytes();
  RoundingError all;
  int64_t values = 0, done = 0;
  for (const PlannedWeight& planned : plan.weights) {
    const Weight& weight = *planned.weight;
    values += weight.values();
    done += weight.stored_bytes();
    if (run.progress) run.progress(done, result.bytes_in, weight.gguf_name);
    if (!planned.emulated) {
      file.copy(weight);
      continue;
    }
    const RoundingError sums = file.round(planned, run, pool);
    all.add(sums);
    result.tensors.push_back({weight.gguf_name, planned.emulated,
                              weight.rows() * row_bytes(format, weight.columns()),
                              sums.relative()});
  }
  file.commit();
  result.bits_per_weight =
      8.0 * static_cast<double>(result.bytes_out) / static_cast<double>(values);
  result.relative_error = all.relative();
  write_config(model, plan, layout, folder);
  write_card(model, format, result, folder);
  for (const char* name : kTakenOver) {
    std::error_code error;
    if (fs::exists(model.path / name, error)) fs::copy_file(model.path / name, folder / name);
  }
  folder.commit();
  return result;
}

}  // namespace fewbits
