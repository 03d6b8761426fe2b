#include "calibrate/importance.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "calibrate/model_identity.h"
#include "calibrate/sample_run.h"
#include "calibrate/samples.h"
#include "calibrate/sites.h"
#include "files/gguf.h"

namespace fewbits {
namespace {

constexpr std::string_view kSums = ".in_sum2", kCounts = ".counts";
constexpr const char* kModelKey = "fewbits.model";

/// Sums of one layer, and the entries of those before.
class Gathering {
 public:
  explicit Gathering(const Model& model) : model_(model) {}

  void add(const SampleSite& site, std::span<const float> input, int64_t tokens) {
    const size_t columns = input.size() / static_cast<size_t>(tokens);
    Sums& sums = sums_[site.role][site.expert];
    sums.squares.resize(columns);
    sums.tokens += tokens;
    refuse_infinite(model_, site, input);
    for (size_t i = 0; i < input.size(); i += columns) {
      for (size_t j = 0; j < columns; ++j) sums.squares[j] += double{input[i + j]} * input[i + j];
    }
  }

  void finish_layer(int64_t layer) {
    for (const auto& [site, sums] : sums_) {
      for (const Role role : readers_of(site)) {
        const Weight* weight = model_.find(role, layer);
        if (weight == nullptr) continue;
        entries[weight->gguf_name] = entry_of(*weight, sums);
      }
    }
    sums_.clear();
  }

  std::map<std::string, ImportanceEntry> entries;

 private:
  struct Sums {
    std::vector<double> squares;
    int64_t tokens = 0;
  };

  using ExpertSums = std::map<int64_t, Sums>;  ///< by expert; 0 where there are none

  /// Experts that no token went to have zeros and a count of zero.
  static ImportanceEntry entry_of(const Weight& weight, const ExpertSums& experts) {
    const int64_t matrices = weight.shape.size() > 2 ? weight.shape.front() : 1;
    ImportanceEntry entry;
    entry.sums.resize(static_cast<size_t>(matrices * weight.columns()));
    entry.tokens.resize(static_cast<size_t>(matrices));
    for (const auto& [expert, sums] : experts) {
      std::copy(sums.squares.begin(), sums.squares.end(),
                entry.sums.begin() + expert * weight.columns());
      entry.tokens[static_cast<size_t>(expert)] = static_cast<float>(sums.tokens);
    }
    return entry;
  }

  const Model& model_;
  std::map<Role, ExpertSums> sums_;
};

std::span<const std::byte> bytes_of(const std::vector<float>& values) {
  return std::as_bytes(std::span(values));
}

std::vector<float> floats_of(const StoredTensor& tensor) {
  std::vector<float> values(static_cast<size_t>(tensor.view.values()));
  decode(*tensor.view.format, tensor.view.bytes.data(), tensor.view.values(), values.data());
  return values;
}

ImportanceEntry entry_of(const StoredTensor& sums, const StoredTensor* counts,
                         const std::string& where) {
  if (counts == nullptr) throw Error(where + ": it has no counts beside its sums");
  if (sums.view.format->name != "F32" || counts->view.format->name != "F32") {
    throw Error(where + ": sums and counts must be F32");
  }
  ImportanceEntry entry{floats_of(sums), floats_of(*counts)};
  if (entry.tokens.empty() || entry.sums.empty() || entry.sums.size() % entry.tokens.size() != 0) {
    throw Error(fmt::format("{}: {} sums do not belong to {} counts", where, entry.sums.size(),
                            entry.tokens.size()));
  }
  const auto sane = [](float value) { return std::isfinite(value) && value >= 0; };
  if (!std::all_of(entry.sums.begin(), entry.sums.end(), sane) ||
      !std::all_of(entry.tokens.begin(), entry.tokens.end(), sane)) {
    throw Error(where + ": a sum or count is negative or not finite");
  }
  return entry;
}

}  // namespace

std::vector<float> ImportanceEntry::means(int64_t matrix) const {
  const auto width = static_cast<size_t>(columns());
  const float count = tokens[static_cast<size_t>(matrix)];
  if (count == 0) return std::vector<float>(width, 1.0f);
  const auto first = sums.begin() + matrix * columns();
  std::vector<float> means(first, first + columns());
  for (float& mean : means) mean /= count;
  return means;
}

std::vector<StarvedExpert> starved_experts(const Importance& importance) {
  std::vector<StarvedExpert> starved;
  for (const auto& [name, entry] : importance.entries) {
    for (int64_t i = 0; entry.matrices() > 1 && i < entry.matrices(); ++i) {
      const auto tokens = static_cast<int64_t>(entry.tokens[static_cast<size_t>(i)]);
      if (tokens < kEnoughTokens) starved.push_back({name, i, tokens});
    }
  }
  return starved;
}

Importance gather_importance(const Model& model, std::span<const std::vector<Token>> samples,
                             ThreadPool& pool, const ImportanceProgress& progress) {
  Gathering gathering(model);
  SampleRun run;
  run.observer = [&](const SampleSite& site, std::span<const float> input, int64_t tokens) {
    gathering.add(site, input, tokens);
  };
  run.layer_done = [&](int64_t layer) { gathering.finish_layer(layer); };
  run.progress = progress;
  run_samples(model, samples, pool, run);
  return {.entries = std::move(gathering.entries),
          .texts = {},
          .samples = std::ssize(samples),
          .sample_length = longest(samples),
          .model = model_identity(model)};
}

void write_importance(const Importance& importance, const std::filesystem::path& path) {
  Metadata metadata;
  metadata.set_string("general.type", "imatrix");
  metadata.set_strings("imatrix.datasets", importance.texts);
  metadata.set_uint32("imatrix.chunk_count", importance.samples);
  metadata.set_uint32("imatrix.chunk_size", importance.sample_length);
  if (!importance.model.empty()) metadata.set_string(kModelKey, importance.model);
  const Format* format = &format_named("F32");
  std::vector<PlannedTensor> tensors;
  for (const auto& [name, entry] : importance.entries) {
    tensors.push_back(
        {name + std::string(kSums), format, Shape{entry.matrices(), entry.columns()}});
    tensors.push_back({name + std::string(kCounts), format, Shape{entry.matrices(), 1}});
  }
  GgufWriter writer(path, metadata, std::move(tensors));
  for (const auto& [name, entry] : importance.entries) {
    writer.append(bytes_of(entry.sums));
    writer.append(bytes_of(entry.tokens));
  }
  writer.commit();
}

Importance read_importance(const std::filesystem::path& path) {
  const TensorStore store = open_gguf(path);
  if (store.metadata().string("general.type") != "imatrix") {
    throw Error(
        fmt::format("{}: no importance matrix (general.type is not imatrix); make one with "
                    "fewbits calibrate or llama-imatrix",
                    path.string()));
  }
  Importance importance;
  if (const auto* texts = store.metadata().strings("imatrix.datasets")) importance.texts = *texts;
  importance.model = store.metadata().string(kModelKey).value_or("");
  importance.samples = store.metadata().integer("imatrix.chunk_count").value_or(0);
  importance.sample_length = store.metadata().integer("imatrix.chunk_size").value_or(0);
  for (const StoredTensor& tensor : store.tensors()) {
    if (!tensor.name.ends_with(kSums)) continue;
    const std::string name = tensor.name.substr(0, tensor.name.size() - kSums.size());
    importance.entries[name] = entry_of(tensor, store.find(name + std::string(kCounts)),
                                        fmt::format("{}: '{}'", path.string(), name));
  }
  if (importance.entries.empty()) {
    throw Error(path.string() + ": the importance matrix has no entries");
  }
  return importance;
}

}  // namespace fewbits
