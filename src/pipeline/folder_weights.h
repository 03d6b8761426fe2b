#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "files/layouts/layout.h"
#include "pipeline/quantize.h"
#include "pipeline/weights_run.h"

// The weights of a model folder: one safetensors file, or shards of it with their index.
namespace fewbits {

struct FolderTarget {
  std::filesystem::path path;
  const Layout* layout;  ///< null: nothing is quantized, every weight is in the plan's format
  std::optional<Inputs> inputs = {};    ///< static ones need a calibrated encoder
  bool kv_scales = false;               ///< likewise
  bool by_use = false;                  ///< the encoder sorts columns
  bool sparse = false;                  ///< of four weights the smaller two become 0
  int64_t shard_bytes = 5'000'000'000;  ///< Hugging Face's own limit
  bool certificate = true;              ///< writes fewbits.json
};

/// The module of a tensor: its name without ".weight". Throws Error where it has another name.
std::string module_of(const StoredTensor& tensor);

/// What a weight has in a folder of rounded ones when it is none of them. Such a folder says that
/// all but these are halves, so what is computed becomes halves, too.
const Format& kept_format(const Weight& weight);

class FolderWeights : public WeightOutput {
 public:
  struct Parts {
    const Model& model;
    const QuantizePlan& plan;
    const QuantizeRun& run;
    const FolderTarget& target;
    ThreadPool& pool;
  };

  /// Decides what goes into which file: a weight stays whole, and a file of several has at most
  /// `shard_bytes` of them. Throws Error where the layout has no place for a weight, or asks for
  /// what no calibration knows of it.
  FolderWeights(const Parts& parts, std::filesystem::path folder);
  ~FolderWeights() override;

  int64_t bytes(size_t weight) const override { return places_[weight].bytes; }
  void read(size_t weight, int64_t offset, std::span<std::byte> out) const override;
  bool holds(size_t weights) const override;
  void resume(std::span<const WrittenWeight> weights) override;
  /// Rounded, or as it is stored.
  WrittenWeight write(size_t weight, const RoundedWeight& rounded, const Pieces& pieces) override;
  void sync() override;
  void keep() override;
  bool kept() const { return kept_; }

  /// Gives the files their names and writes the index of several. REQUIRES: all weights are
  /// written.
  void finish();

  int64_t file_bytes() const;

  /// Opens the folder as a model and compares each value with what was written. Throws Error where
  /// one is another.
  void verify(std::span<const WrittenWeight> weights) const;

 private:
  struct Place {
    size_t shard;
    int64_t offset, bytes;
  };
  struct Shard {
    std::vector<SafetensorsEntry> entries;
    int64_t bytes = 0;
    std::unique_ptr<SafetensorsWriter> writer = {};
  };

  void plan_shards(int64_t shard_bytes);
  void open_shards();
  /// Of the first weights, in this shard.
  int64_t bytes_in(size_t shard, size_t weights) const;
  std::vector<SafetensorsEntry> entries_of(const PlannedWeight& planned) const;
  const Format& float_format(const PlannedWeight& planned) const;
  std::unique_ptr<LayoutTensor> tensor_of(const PlannedWeight& planned) const;
  void add_kv_entries(const Weight& weight, std::vector<SafetensorsEntry>& entries) const;
  void append_kv_scales(const Weight& weight, const RoundedWeight& rounded,
                        const Pieces& append) const;
  std::string shard_name(size_t index) const;
  WrittenWeight copy(const Weight& weight, const Pieces& append);
  WrittenWeight convert(const PlannedWeight& planned, const Pieces& append);
  WrittenWeight round(const PlannedWeight& planned, const RoundedWeight& rounded,
                      const Pieces& append);

  const Model& model_;
  const QuantizePlan& plan_;
  const QuantizeRun& run_;
  ThreadPool& pool_;
  const FolderTarget& target_;
  std::filesystem::path folder_;
  std::vector<Shard> shards_;
  std::vector<Place> places_;  ///< of the weights
  bool kept_ = false;
};

}  // namespace fewbits
