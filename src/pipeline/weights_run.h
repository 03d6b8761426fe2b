#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/sha256.h"
#include "files/output_file.h"
#include "pipeline/quantize.h"
#include "pipeline/rounding_error.h"

// The weights of a plan on their way into an output: what an earlier run of the same has written is
// taken over, what is written now is told to the journal, layer by layer, and all of it is read
// back from the disk before the output is finished.
namespace fewbits {

struct WrittenWeight {
  RoundingError error;
  uint64_t value_sum = 0;  ///< of an output that knows its weights by their values
};

/// Where weights are written, in the order of the plan.
class WeightOutput {
 public:
  using Pieces = std::function<void(std::span<const std::byte>)>;
  virtual ~WeightOutput() = default;

  /// What a weight takes there, and a part of it. Of weights that are written; throws DiskError
  /// where they cannot be read.
  virtual int64_t bytes(size_t weight) const = 0;
  virtual void read(size_t weight, int64_t offset, std::span<std::byte> out) const = 0;

  /// Whether an earlier run left the bytes of the first `weights`.
  virtual bool holds(size_t weights) const = 0;

  /// Goes on behind these, of which holds() is true. Once, before the first is written.
  virtual void resume(std::span<const WrittenWeight> weights) = 0;

  /// Writes the next weight, encoded here unless `rounded` has its bytes, and hands each piece of
  /// what it wrote to `pieces`.
  virtual WrittenWeight write(size_t weight, const RoundedWeight& rounded,
                              const Pieces& pieces) = 0;

  /// What is written is on the disk when this returns.
  virtual void sync() = 0;
  /// For a run that stops here and can go on.
  virtual void keep() = 0;
};

/// What a plan came to, but for sizes of files.
QuantizeResult result_of(const Model& model, const QuantizePlan& plan,
                         const std::vector<WrittenWeight>& written);
double bits_per_weight(int64_t bytes, const QuantizePlan& plan);

class WeightsRun {
 public:
  /// `out` names the output in errors. All references must outlive this object.
  WeightsRun(const QuantizePlan& plan, const QuantizeRun& run, const std::filesystem::path& out,
             WeightOutput& output);
  ~WeightsRun();

  /// Writes what an earlier run has not, reads everything back, then calls `complete`. What an
  /// interrupt or a failing disk throws says what is kept.
  void finish(const std::function<void()>& complete);

  const std::vector<WrittenWeight>& written() const { return written_; }

  /// What lies beside the output until it is whole.
  int64_t bytes_aside() const { return rounded_ == nullptr ? 0 : rounded_->offsets.back(); }

  /// Of the bytes of all weights, one after another.
  std::string data_sha256() const { return hash_.so_far(); }

 private:
  /// What calibrated layers computed with, where the output holds something else.
  struct Rounded {
    OutputFile file;
    Sha256 hash;
    std::vector<int64_t> offsets;  ///< by weight; behind the last: the file's size. First its
                                   ///< bytes, then the order of its columns if that is kept
  };

  size_t done() const { return written_.size(); }
  int64_t bytes_of_plan(size_t weight) const;
  bool ends_layer(size_t weight) const;
  void open_rounded();
  bool goes_to_rounded(size_t weight) const;
  void keep_rounded(const RoundedWeight& rounded);
  void tell(int64_t bytes, const Weight& weight) const;
  void add(const WrittenWeight& weight, std::string hash);
  void write_next();
  void checkpoint();
  void resume();
  bool take_over(const Json& record);
  bool take_over_rounded(const Json& record, size_t end);
  void restore_layers();
  int64_t bytes_of_rounded(size_t weight) const;
  RoundedWeight rounded_before(const Weight& weight);
  void verify() const;
  std::string kept(std::string_view message);

  const QuantizePlan& plan_;
  const QuantizeRun& run_;
  std::filesystem::path out_;
  WeightOutput& output_;
  std::unique_ptr<Rounded> rounded_;
  Sha256 hash_;
  std::vector<std::string> hashes_;  ///< of the bytes up to the end of each weight
  std::vector<WrittenWeight> written_;
  std::vector<std::byte> restored_;
  std::vector<int32_t> restored_columns_;
  int64_t bytes_done_ = 0;
  size_t journaled_ = 0;
  double last_checkpoint_ = 0;
};

}  // namespace fewbits
