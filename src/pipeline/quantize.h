#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "base/thread_pool.h"
#include "calibrate/importance.h"
#include "files/file_hash.h"
#include "files/gguf.h"
#include "files/journal.h"
#include "formats/format.h"
#include "model/model.h"

// Writes a model as a GGUF file in other formats, streaming: a band of rows is read from the mapped
// source, encoded by all threads and appended, and the source pages behind it are given back.
// Memory does not grow with the model.
namespace fewbits {

struct QuantizeOptions {
  std::string to = {};  ///< a mix (mix.h)
  /// A format, any: the matrices of the layers are rounded to it and written as F16, so that its
  /// loss can be measured in every engine. Formats by name, output and embedding mean this too.
  std::string emulate = {};
  bool pure = false;  ///< the mix's base format for every matrix, embedding and output included
  std::vector<std::pair<std::string, std::string>> tensor_formats =
      {};                             ///< glob on GGUF names, format; the last match counts
  std::string output_format = {};     ///< of the output layer; "" as the mix says
  std::string embedding_format = {};  ///< of the token embedding; "" as the mix says
  bool weighted = false;              ///< importance weights or calibration texts are given
};

struct PlannedWeight {
  const Weight* weight;
  const Format* format;              ///< as it is written
  const Format* emulated = nullptr;  ///< as it is rounded before, where that is another format
  bool fixed = false;                ///< the user asked for the format by the tensor's name

  const Format& rounded_format() const { return emulated ? *emulated : *format; }
};

struct QuantizePlan {
  std::vector<PlannedWeight> weights;
  Metadata metadata;
  int64_t bytes_out = 0;
  std::vector<std::string> warnings;
  Json certificate = {};  ///< what the file will say of itself (certificate.h); null: nothing

  std::vector<PlannedTensor> tensors() const;
};

struct TensorError {
  std::string name;
  const Format* format;
  int64_t bytes;
  double relative_error;  ///< sum of squared errors over sum of squared weights
};

struct QuantizeResult {
  int64_t bytes_in = 0;
  int64_t bytes_out = 0;
  double bits_per_weight = 0;  ///< every byte of the file, over the values of all tensors
  double relative_error = 0;   ///< of all weights together
  std::vector<TensorError> tensors;
  int64_t files = 1;
  int64_t bytes_aside = 0;  ///< lay beside the output until it was whole
};

/// Decides every tensor's format and finds what cannot work before any work is done.
QuantizePlan plan_quantize(const Model& model, const QuantizeOptions& options);

/// Gives the file a certificate. `recipe` is what was asked for, `measured`: QuantizeRun::measure
/// will tell what it cost.
void add_certificate(QuantizePlan& plan, const std::vector<FileHash>& source, Json recipe,
                     bool measured);

/// The plan's certificate with what is known when all tensors are written; `result.tensors` are the
/// plan's weights in order.
Json completed_certificate(const QuantizePlan& plan, const QuantizeResult& result,
                           std::string data_hash);

using QuantizeProgress =
    std::function<void(int64_t bytes_done, int64_t bytes_total, const std::string& tensor)>;

/// A weight as a calibrated method rounded it.
struct RoundedWeight {
  std::span<const std::byte> bytes = {};  ///< rows in GGUF's order; empty: the method left it alone
  /// Sums over the weights, scaled as the method scaled them, of squared errors and squares.
  double error = 0, square = 0;
  /// The largest of what it was fed in calibration, and of the keys and values that its layer
  /// cached, whatever the sign; nothing: it was not watched.
  std::optional<float> largest_input = {};
  std::optional<float> largest_key = {}, largest_value = {};
  /// Column i of the bytes is column `columns[i]` of the weight; empty: column i.
  std::span<const int32_t> columns = {};
};

/// Asked in the order of the plan; the bytes are valid until the next call. Weights that it leaves
/// alone are encoded by their format's own encoder.
using WeightEncoder = std::function<RoundedWeight(const PlannedWeight&)>;

/// What an earlier run made of a weight: its bytes, and the order of its columns. Valid until the
/// next call.
using RoundedBefore = std::function<RoundedWeight(const Weight&)>;

struct QuantizeRun {
  Search search = Search::kBest;
  WeightEncoder encoder = {};
  const Importance* importance = nullptr;  ///< for the formats' own encoders
  QuantizeProgress progress = {};
  /// For the certificate: facts about the finished file, which may be read at `path` although it
  /// has not its name yet. At most kMostMeasuredBytes as text.
  std::function<Json(const std::filesystem::path& path)> measure = {};
  /// Of this output, identified: what it says is done is not done again, and what is done now it
  /// is told, layer by layer.
  Journal* journal = nullptr;
  /// Told of each layer that an earlier run finished, before `encoder` is asked.
  std::function<void(int64_t layer, const RoundedBefore& before)> restore = {};
  bool sorts_columns = false;  ///< `encoder` gives the order of columns
  /// Everything is read back from the disk before the output gets its name.
  bool verify = true;
  QuantizeProgress read_back = {};
  int64_t file_bytes = 0;  ///< a GGUF becomes several of at most so many bytes; 0: one
};

inline constexpr size_t kMostMeasuredBytes = 4096;

/// Throws Error where `out` cannot be written from `model`: a name that does not end in .gguf, or a
/// file that the source consists of. Quantizing reads while it writes, and the rename would then
/// replace a shard of the model. run_quantize asks too; ask before opening a large model.
void check_output(const std::filesystem::path& model, const std::filesystem::path& out);

/// Most memory that run_quantize takes by itself: one band of rows, read and encoded.
int64_t encoding_memory(const QuantizePlan& plan, int threads);

/// Throws Error where a weight is NaN, infinite or too large for its format (tensor, row and column
/// named), or where the file reads back as something else than was written. It appears under its
/// name only when it is whole. With a journal, what is done stays where the run is interrupted
/// (Interrupted) or the disk fails (DiskError), and what these say is how to go on; after other
/// errors nothing stays.
QuantizeResult run_quantize(const Model& model, const QuantizePlan& plan, const QuantizeRun& run,
                            const std::filesystem::path& out, ThreadPool& pool);

}  // namespace fewbits
