#include "pipeline/folder_weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/checked_math.h"
#include "base/error.h"
#include "base/interrupt.h"
#include "formats/fp8_tiles.h"
#include "pipeline/tensor_outer.h"

namespace fewbits {
namespace {

constexpr int64_t kBandValues = int64_t{1} << 22;
constexpr int64_t kTaskValues = int64_t{1} << 15;
constexpr std::string_view kWeightSuffix = ".weight";
constexpr const char* kSingleFile = "model.safetensors";
constexpr const char* kIndexFile = "model.safetensors.index.json";

/// A sum over the values of a row at its place: rows may come in any order. A step of the finaliser
/// of MurmurHash3 for each value; -0 counts as 0.
uint64_t value_sum(int64_t row, std::span<const float> values) {
  uint64_t sum = static_cast<uint64_t>(row) * 0x9e3779b97f4a7c15u;
  for (const float value : values) {
    sum ^= std::bit_cast<uint32_t>(value + 0.0f);
    sum = (sum ^ (sum >> 33)) * 0xff51afd7ed558ccdu;
  }
  return sum ^ (sum >> 29);
}

void read_stored_row(const StoredTensor& tensor, int64_t row, std::span<float> values,
                     std::vector<std::byte>& scratch) {
  decode(*tensor.view.format, tensor.row(row, scratch).data(), std::ssize(values), values.data());
}

uint64_t value_sum(const StoredTensor& tensor, ThreadPool& pool) {
  const int64_t rows = tensor.view.rows(), columns = tensor.view.columns();
  const int64_t rows_per_task = std::max<int64_t>(1, kTaskValues / columns);
  std::vector<uint64_t> sums(static_cast<size_t>(divide_up(rows, rows_per_task)));
  pool.run(std::ssize(sums), [&](int64_t task, int) {
    std::vector<float> values(static_cast<size_t>(columns));
    std::vector<std::byte> scratch;
    const int64_t end = std::min(rows, (task + 1) * rows_per_task);
    for (int64_t row = task * rows_per_task; row < end; ++row) {
      read_stored_row(tensor, row, values, scratch);
      sums[static_cast<size_t>(task)] += value_sum(row, values);
    }
  });
  uint64_t all = 0;
  for (const uint64_t sum : sums) all += sum;
  return all;
}

/// Not those that follow from the config.
std::vector<const StoredTensor*> stored(const Model& model, const Weight& weight) {
  if (!weight.parts.empty()) return weight.parts;
  if (model.store.find(weight.tensor->name) != weight.tensor) return {};
  return {weight.tensor};
}

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
    if (run.encoder && tile_rows(format_) > 1) {
      throw Error(fmt::format("{}: tiles are not calibrated; leave --calibrate out", format_.name));
    }
    if (run.encoder) rounded_ = run.encoder(planned).bytes;
    if (!rounded_.empty()) place_ = gguf_row_of_stored(weight_);
  }

  std::span<const std::byte> rows(int64_t begin, int64_t count) {
    const int64_t columns = weight_.columns(), stride = row_bytes(format_, columns);
    const int64_t tile = tile_rows(format_);
    const int64_t rows_per_task = tile > 1 ? tile : std::max<int64_t>(1, kTaskValues / columns);
    band_.resize(static_cast<size_t>(count * stride));
    std::vector<RoundingError> sums(static_cast<size_t>(divide_up(count, rows_per_task)));
    std::vector<uint64_t> value_sums(sums.size());
    pool_.run(std::ssize(sums), [&](int64_t task, int) {
      const int64_t first = task * rows_per_task, end = std::min(count, first + rows_per_task);
      if (tile > 1) encode_tile(begin + first, end - first, band_.data() + first * stride);
      for (int64_t row = first; row < end; ++row) {
        std::byte* out = band_.data() + row * stride;
        sums[static_cast<size_t>(task)].add(
            round_row(begin + row, out, value_sums[static_cast<size_t>(task)]));
      }
    });
    for (const RoundingError& part : sums) {  // in order: the same for any number of threads
      total_.add(part);
    }
    for (const uint64_t sum : value_sums) sum_ += sum;
    return band_;
  }

  const RoundingError& total() const { return total_; }
  uint64_t sum() const { return sum_; }

 private:
  void encode_tile(int64_t begin, int64_t count, std::byte* out) const {
    const int64_t columns = weight_.columns();
    std::vector<float> values(static_cast<size_t>(count * columns));
    std::vector<std::byte> scratch;
    for (int64_t i = 0; i < count; ++i) {
      read_stored_row(
          *weight_.tensor, begin + i,
          std::span(values).subspan(static_cast<size_t>(i * columns), static_cast<size_t>(columns)),
          scratch);
    }
    encode_tiles(format_, values.data(), count, columns, out);
  }

  RoundingError round_row(int64_t row, std::byte* out, uint64_t& sum) const {
    const int64_t columns = weight_.columns(), stride = row_bytes(format_, columns);
    std::vector<float> values(static_cast<size_t>(columns)), stored(values.size());
    std::vector<std::byte> scratch;
    decode(weight_.format(), weight_.tensor->row(row, scratch).data(), columns, values.data());
    if (tile_rows(format_) > 1) {
      // The row has been encoded with the others of its tile.
    } else if (rounded_.empty()) {
      encode_rows(format_, values.data(), 1, columns, nullptr, search_, out, &outer_);
    } else {
      std::copy_n(rounded_.begin() + place_[static_cast<size_t>(row)] * stride, stride, out);
    }
    decode(format_, out, columns, stored.data());
    sum += value_sum(row, stored);
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
  uint64_t sum_ = 0;
};

}  // namespace

std::string module_of(const StoredTensor& tensor) {
  std::string name = tensor.name;
  if (!name.ends_with(kWeightSuffix)) {
    throw Error(
        fmt::format("tensor '{}': only a layer's '.weight' can be written in this layout", name));
  }
  name.resize(name.size() - kWeightSuffix.size());
  return name;
}

FolderWeights::FolderWeights(const Model& model, const QuantizePlan& plan,
                             const FolderTarget& target, std::filesystem::path folder)
    : model_(model), plan_(plan), layout_(*target.layout), folder_(std::move(folder)) {
  plan_shards(target.shard_bytes);
}

FolderWeights::~FolderWeights() = default;

std::unique_ptr<LayoutTensor> FolderWeights::tensor_of(const PlannedWeight& planned) const {
  const Weight& weight = *planned.weight;
  return layout_.tensor(*planned.emulated, module_of(*weight.tensor), weight.rows(),
                        weight.columns());
}

std::vector<SafetensorsEntry> FolderWeights::entries_of(const PlannedWeight& planned) const {
  if (planned.emulated != nullptr) return tensor_of(planned)->entries();
  std::vector<SafetensorsEntry> entries;
  for (const StoredTensor* tensor : stored(model_, *planned.weight)) {
    const Format& format = *tensor->view.format;
    if (!format.is_float()) {
      throw Error(
          fmt::format("{}: is in {} already and would be copied, which a folder of another "
                      "format cannot hold; start from the 16-bit model",
                      tensor->name, format.name));
    }
    entries.push_back({tensor->name, std::string(format.name), tensor->view.shape,
                       *tensor_bytes(format, tensor->view.shape)});
  }
  return entries;
}

void FolderWeights::plan_shards(int64_t shard_bytes) {
  int64_t bytes = 0;
  shards_.emplace_back();
  for (size_t i = 0; i < plan_.weights.size(); ++i) {
    std::vector<SafetensorsEntry> entries = entries_of(plan_.weights[i]);
    int64_t more = 0;
    for (const SafetensorsEntry& entry : entries) more += entry.bytes;
    if (bytes > 0 && bytes + more > shard_bytes) {
      shards_.emplace_back();
      bytes = 0;
    }
    bytes += more;
    Shard& shard = shards_.back();
    std::move(entries.begin(), entries.end(), std::back_inserter(shard.entries));
    shard.end = i + 1;
  }
}

std::string FolderWeights::shard_name(size_t index) const {
  if (shards_.size() == 1) return kSingleFile;
  return fmt::format("model-{:05}-of-{:05}.safetensors", index + 1, shards_.size());
}

void FolderWeights::open_next_shard() {
  if (writer_ != nullptr) {
    writer_->commit();
    ++shard_;
  }
  writer_ =
      std::make_unique<SafetensorsWriter>(folder_ / shard_name(shard_), shards_[shard_].entries);
  file_bytes_ += writer_->file_bytes();
}

void FolderWeights::append(std::span<const std::byte> bytes) {
  writer_->append(bytes);
  hash_.update(bytes);
}

RoundingError FolderWeights::write(const QuantizeRun& run, ThreadPool& pool) {
  check(next_ < plan_.weights.size());
  if (writer_ == nullptr || next_ == shards_[shard_].end) open_next_shard();
  const PlannedWeight& planned = plan_.weights[next_++];
  sums_.push_back(0);
  return planned.emulated ? round(planned, run, pool) : copy(*planned.weight);
}

RoundingError FolderWeights::copy(const Weight& weight) {
  RoundingError all;
  for (const StoredTensor* tensor : stored(model_, weight)) {
    std::vector<std::byte> scratch;
    std::vector<float> values(static_cast<size_t>(tensor->view.columns()));
    uint64_t sum = 0;
    for (int64_t row = 0; row < tensor->view.rows(); ++row) {
      append(tensor->row(row, scratch));
      read_stored_row(*tensor, row, values, scratch);
      all.add(rounding_error(values, values));
      sum += value_sum(row, values);
    }
    sums_.back() += sum;
    tensor->drop_pages();
  }
  return all;
}

RoundingError FolderWeights::round(const PlannedWeight& planned, const QuantizeRun& run,
                                   ThreadPool& pool) {
  const Weight& weight = *planned.weight;
  RowRounder rounder(planned, run, pool);
  const auto tensor = tensor_of(planned);
  const int64_t band =
      round_up(std::max<int64_t>(1, kBandValues / weight.columns()), tile_rows(*planned.emulated));
  for (int64_t row = 0; row < weight.rows(); row += band) {
    throw_if_interrupted();
    const int64_t count = std::min(band, weight.rows() - row);
    append(tensor->append_rows(rounder.rows(row, count)));
  }
  append(tensor->rest());
  weight.drop_pages();
  sums_.back() = rounder.sum();
  return rounder.total();
}

void FolderWeights::finish() {
  check(next_ == plan_.weights.size());
  writer_->commit();
  writer_.reset();
  if (shards_.size() == 1) return;
  Json map = Json::object();
  int64_t bytes = 0;
  for (size_t i = 0; i < shards_.size(); ++i) {
    for (const SafetensorsEntry& entry : shards_[i].entries) {
      map[entry.name] = shard_name(i);
      bytes += entry.bytes;
    }
  }
  const Json index = {{"metadata", {{"total_size", bytes}}}, {"weight_map", std::move(map)}};
  const std::string text = index.dump(2) + "\n";
  OutputFile file(folder_ / kIndexFile, std::ssize(text));
  file.append(std::as_bytes(std::span(text)));
  file.commit();
}

void FolderWeights::verify(const std::filesystem::path& folder, ThreadPool& pool) const {
  const Model model = open_model(folder);
  for (size_t i = 0; i < plan_.weights.size(); ++i) {
    throw_if_interrupted();
    const Weight& weight = *plan_.weights[i].weight;
    if (stored(model_, weight).empty()) continue;
    const auto found = std::ranges::find(model.weights, weight.gguf_name, &Weight::gguf_name);
    uint64_t sum = 0;
    if (found != model.weights.end()) {
      for (const StoredTensor* tensor : stored(model, *found)) {
        sum += value_sum(*tensor, pool);
        tensor->drop_pages();
      }
    }
    if (found == model.weights.end() || sum != sums_[i]) {
      throw Error(
          fmt::format("{}: '{}' reads back as something else than was written; is the disk "
                      "sound?",
                      folder.string(), weight.gguf_name));
    }
  }
}

}  // namespace fewbits
