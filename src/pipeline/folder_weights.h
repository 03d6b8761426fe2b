#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/sha256.h"
#include "files/layouts/layout.h"
#include "pipeline/quantize.h"
#include "pipeline/rounding_error.h"

// The weights of a model folder: one safetensors file, or shards of it with their index.
namespace fewbits {

struct FolderTarget {
  std::filesystem::path path;
  const Layout* layout;
  int64_t shard_bytes = 5'000'000'000;  ///< Hugging Face's own limit
  bool certificate = true;              ///< writes fewbits.json
  bool verify = true;                   ///< reads back what was written before it gets its name
};

/// The module of a tensor: its name without ".weight". Throws Error where it has another name.
std::string module_of(const StoredTensor& tensor);

class FolderWeights {
 public:
  /// Decides what goes into which file: a weight stays whole, and a file of several has at most
  /// `shard_bytes` of them. Throws Error where the layout has no place for a weight.
  FolderWeights(const Model& model, const QuantizePlan& plan, const FolderTarget& target,
                std::filesystem::path folder);
  ~FolderWeights();

  /// The next weight of the plan: rounded, or as it is stored. Its sums of squares.
  RoundingError write(const QuantizeRun& run, ThreadPool& pool);

  /// Closes the last file and writes the index of several. REQUIRES: all weights are written.
  void finish();

  int64_t file_bytes() const { return file_bytes_; }
  /// Of the bytes of all tensors, one after another.
  std::string data_sha256() { return hash_.finish(); }

  /// Opens the folder as a model and compares each value with what was written. Throws Error where
  /// one is another.
  void verify(const std::filesystem::path& folder, ThreadPool& pool) const;

 private:
  struct Shard {
    std::vector<SafetensorsEntry> entries;
    size_t end = 0;  ///< the weight behind its last
  };

  void plan_shards(int64_t shard_bytes);
  std::vector<SafetensorsEntry> entries_of(const PlannedWeight& planned) const;
  std::unique_ptr<LayoutTensor> tensor_of(const PlannedWeight& planned) const;
  std::string shard_name(size_t index) const;
  void open_next_shard();
  void append(std::span<const std::byte> bytes);
  RoundingError copy(const Weight& weight);
  RoundingError round(const PlannedWeight& planned, const QuantizeRun& run, ThreadPool& pool);

  const Model& model_;
  const QuantizePlan& plan_;
  const Layout& layout_;
  std::filesystem::path folder_;
  std::vector<Shard> shards_;
  size_t shard_ = 0, next_ = 0;
  std::unique_ptr<SafetensorsWriter> writer_;
  int64_t file_bytes_ = 0;
  Sha256 hash_;
  std::vector<uint64_t> sums_;  ///< of the values of each weight, see value_sum
};

}  // namespace fewbits
