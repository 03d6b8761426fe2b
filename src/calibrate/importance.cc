#include "calibrate/importance.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/interrupt.h"
#include "calibrate/model_identity.h"
#include "calibrate/sites.h"
#include "engine/embedder.h"
#include "engine/engine.h"
#include "files/gguf.h"

namespace fewbits {
namespace {

constexpr std::string_view kSums = ".in_sum2", kCounts = ".counts";
constexpr const char* kModelKey = "fewbits.model";

int64_t longest(std::span<const std::vector<Token>> samples) {
  size_t length = 0;
  for (const auto& sample : samples) length = std::max(length, sample.size());
  return static_cast<int64_t>(length);
}

/// All samples through one layer after another.
class Gathering {
 public:
  Gathering(const Model& model, std::span<const std::vector<Token>> samples, ThreadPool& pool)
      : model_(model),
        samples_(samples),
        pool_(pool),
        config_(model.config),
        rope_(rope_table(model, longest(samples))),
        cache_(one_layer(), longest(samples)),
        buffers_(config_, longest(samples), pool.threads()) {
    rope_.prepare(0, longest(samples));
    embed();
  }

  void run_layer(int64_t layer, const std::function<void()>& sample_done) {
    const LayerWeights weights = load_layer(model_, layer, {}, pool_);
    std::vector<float> hidden;
    int64_t begin = 0, sample = 0;
    const SiteObserver observer = [&](Role site, std::span<const float> input, int64_t tokens) {
      add(site, 0, input, tokens, layer, sample);
      return true;
    };
    const ExpertObserver of_experts = [&](Role site, int64_t expert, std::span<const float> input,
                                          int64_t tokens) {
      add(site, expert, input, tokens, layer, sample);
    };
    for (const auto& tokens : samples_) {
      throw_if_interrupted();
      const int64_t size = static_cast<int64_t>(tokens.size()) * config_.hidden;
      hidden.assign(hidden_.begin() + begin, hidden_.begin() + begin + size);
      LayerContext context{config_, rope_, buffers_, pool_, &observer, &of_experts};
      cache_.truncate(0);
      forward_layer(weights, hidden, cache_.layer(0), context);
      std::copy(hidden.begin(), hidden.end(), hidden_.begin() + begin);
      begin += size;
      ++sample;
      sample_done();
    }
    finish_layer(layer);
  }

  std::map<std::string, ImportanceEntry> entries;

 private:
  const ModelConfig& one_layer() {
    config_.layers = 1;
    return config_;
  }

  void embed() {
    const Embedder embedder(model_);
    for (const auto& sample : samples_) embedder.embed(sample, hidden_);
  }

  void add(Role site, int64_t expert, std::span<const float> input, int64_t tokens, int64_t layer,
           int64_t sample) {
    const size_t columns = input.size() / static_cast<size_t>(tokens);
    Sums& sums = sums_[site][expert];
    sums.squares.resize(columns);
    sums.tokens += tokens;
    double all = 0;
    for (size_t i = 0; i < input.size(); i += columns) {
      for (size_t j = 0; j < columns; ++j) {
        const double square = double{input[i + j]} * input[i + j];
        sums.squares[j] += square;
        all += square;
      }
    }
    if (!std::isfinite(all)) {
      throw Error(fmt::format("calibration: what {} of layer {} is fed in sample {} is not finite",
                              reader_of(site, layer), layer, sample));
    }
  }

  std::string reader_of(Role site, int64_t layer) const {
    for (const Role role : readers_of(site)) {
      const Weight* weight = model_.find(role, layer);
      if (weight != nullptr) return weight->gguf_name;
    }
    return "something";
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
  std::span<const std::vector<Token>> samples_;
  ThreadPool& pool_;
  ModelConfig config_;
  RopeTable rope_;
  KvCache cache_;
  LayerBuffers buffers_;
  std::vector<float> hidden_;  ///< [sample][token][hidden size]
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
  check(!samples.empty());
  Gathering gathering(model, samples, pool);
  const auto count = static_cast<int64_t>(samples.size());
  int64_t done = 0;
  for (int64_t layer = 0; layer < model.config.layers; ++layer) {
    gathering.run_layer(layer, [&] {
      if (progress) progress(++done, count * model.config.layers);
    });
  }
  return {.entries = std::move(gathering.entries),
          .texts = {},
          .samples = count,
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
