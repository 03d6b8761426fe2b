#include "pipeline/folder_weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

#include "base/checked_math.h"
#include "base/error.h"
#include "base/interrupt.h"
#include "formats/fp8_tiles.h"
#include "pipeline/tensor_outer.h"

namespace fewbits {
namespace {

constexpr int64_t kBandValues = int64_t{1} << 22;
constexpr int64_t kTaskValues = int64_t{1} << 15;
constexpr int64_t kCopiedBytes = int64_t{1} << 20;
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
  const int64_t rows_per_band = std::max<int64_t>(1, kBandValues / columns);
  uint64_t all = 0;
  for (int64_t begin = 0; begin < rows; begin += rows_per_band) {
    const int64_t end = std::min(rows, begin + rows_per_band);
    std::vector<uint64_t> sums(static_cast<size_t>(divide_up(end - begin, rows_per_task)));
    pool.run(std::ssize(sums), [&](int64_t task, int) {
      std::vector<float> values(static_cast<size_t>(columns));
      std::vector<std::byte> scratch;
      const int64_t first = begin + task * rows_per_task;
      for (int64_t row = first; row < std::min(end, first + rows_per_task); ++row) {
        read_stored_row(tensor, row, values, scratch);
        sums[static_cast<size_t>(task)] += value_sum(row, values);
      }
    });
    for (const uint64_t sum : sums) all += sum;
    tensor.drop_pages();
  }
  return all;
}

/// Not those that follow from the config.
std::vector<const StoredTensor*> stored(const Model& model, const Weight& weight) {
  if (!weight.parts.empty()) return weight.parts;
  if (weight.computed) return {weight.tensor};
  if (model.store.find(weight.tensor->name) != weight.tensor) return {};
  return {weight.tensor};
}

/// Where each stored row lies in the bytes of a calibrated method, which has GGUF's order.
std::vector<int64_t> gguf_row_of_stored(const Weight& weight) {
  std::vector<int64_t> result(static_cast<size_t>(weight.rows()));
  for (int64_t row = 0; row < weight.rows(); ++row) {
    const int64_t ours = weight.row_of_gguf(row);
    const auto& stored = weight.stored_rows;
    result[static_cast<size_t>(stored.empty() ? ours : stored[static_cast<size_t>(ours)])] = row;
  }
  return result;
}

/// Whether a weight's outputs are cached as keys, as values.
std::pair<bool, bool> fills_cache(Role role) {
  const bool both = role == Role::kQueryKeyValue;
  return {both || role == Role::kKey, both || role == Role::kValue};
}

/// The values of a weight in the rows that its tensors have, computed or as they are stored.
class StoredRows {
 public:
  explicit StoredRows(const Weight& weight) : weight_(weight) {
    if (!weight.computed) return;
    our_row_.resize(static_cast<size_t>(weight.rows()));
    for (size_t row = 0; row < our_row_.size(); ++row) {
      const size_t place =
          weight.stored_rows.empty() ? row : static_cast<size_t>(weight.stored_rows[row]);
      check(place < our_row_.size());
      our_row_[place] = static_cast<int64_t>(row);
    }
    if (!weight.transposed) return;
    const int64_t columns = weight.columns();
    whole_.resize(static_cast<size_t>(weight.values()));
    for (int64_t row = 0; row < weight.rows(); ++row) {
      weight.read_row(our_row_[static_cast<size_t>(row)], whole_.data() + row * columns);
    }
  }

  const Weight& weight() const { return weight_; }

  /// Row `row` of a tensor before which the other parts have `before` rows.
  void read(const StoredTensor& tensor, int64_t before, int64_t row, std::span<float> out) const {
    std::vector<std::byte> scratch;
    if (!weight_.computed) return read_stored_row(tensor, row, out, scratch);
    if (!whole_.empty()) {
      const auto columns = static_cast<size_t>(weight_.columns());
      for (size_t i = 0; i < out.size(); ++i)
        out[i] = whole_[i * columns + static_cast<size_t>(row)];
    } else {
      weight_.read_row(our_row_[static_cast<size_t>(before + row)], out.data());
    }
    for (float& value : out) value -= weight_.added;
  }

 private:
  const Weight& weight_;
  std::vector<int64_t> our_row_;
  std::vector<float> whole_;  ///< of a matrix that lies on its side
};

/// Rounds the rows of one weight, in the order in which they are stored.
class RowRounder {
 public:
  RowRounder(const PlannedWeight& planned, const RoundedWeight& rounded, const QuantizeRun& run,
             ThreadPool& pool)
      : weight_(*planned.weight),
        source_(weight_),
        format_(*planned.emulated),
        outer_(tensor_outer(format_, weight_, pool)),
        search_(run.search),
        pool_(pool),
        rounded_(rounded.bytes),
        columns_(rounded.columns) {
    if (run.encoder && tile_rows(format_) > 1) {
      throw Error(fmt::format("{}: tiles are not calibrated; leave --calibrate out", format_.name));
    }
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

  /// From now on only the larger two of each four weights are rounded, the others are 0.
  void keep_two_of_four() { sparse_ = true; }

 private:
  void encode_tile(int64_t begin, int64_t count, std::byte* out) const {
    const int64_t columns = weight_.columns();
    std::vector<float> values(static_cast<size_t>(count * columns));
    for (int64_t i = 0; i < count; ++i) {
      source_.read(*weight_.tensor, 0, begin + i,
                   std::span(values).subspan(static_cast<size_t>(i * columns),
                                             static_cast<size_t>(columns)));
    }
    encode_tiles(format_, values.data(), count, columns, out);
  }

  RoundingError round_row(int64_t row, std::byte* out, uint64_t& sum) const {
    const int64_t columns = weight_.columns(), stride = row_bytes(format_, columns);
    std::vector<float> values(static_cast<size_t>(columns)), stored(values.size());
    source_.read(*weight_.tensor, 0, row, values);
    if (tile_rows(format_) > 1) {
      // The row has been encoded with the others of its tile.
    } else if (rounded_.empty()) {
      encode_rows(format_, sparse_ ? thinned(values).data() : values.data(), 1, columns, nullptr,
                  search_, out, &outer_);
    } else {
      std::copy_n(rounded_.begin() + place_[static_cast<size_t>(row)] * stride, stride, out);
    }
    decode(format_, out, columns, stored.data());
    if (!columns_.empty()) stored = in_order(stored);
    sum += value_sum(row, stored);
    for (const float value : values) {
      if (std::isfinite(value)) continue;
      throw Error(fmt::format("tensor '{}': row {} has a value that is no finite number",
                              weight_.tensor->name, row));
    }
    return rounding_error(values, stored);
  }

  std::vector<float> in_order(const std::vector<float>& values) const {
    std::vector<float> result(values.size());
    for (size_t i = 0; i < values.size(); ++i) result[static_cast<size_t>(columns_[i])] = values[i];
    return result;
  }

  static std::vector<float> thinned(std::vector<float> values) {
    for (size_t i = 0; i + 4 <= values.size(); i += 4) {
      const auto four = std::span(values).subspan(i, 4);
      std::array<float, 4> sizes;
      std::ranges::transform(four, sizes.begin(), [](float value) { return std::abs(value); });
      for (int pruned = 0; pruned < 2; ++pruned) {
        const auto least = std::ranges::min_element(sizes);
        four[static_cast<size_t>(least - sizes.begin())] = 0;
        *least = std::numeric_limits<float>::infinity();
      }
    }
    return values;
  }

  const Weight& weight_;
  StoredRows source_;
  const Format& format_;
  bool sparse_ = false;
  Outer outer_;
  Search search_;
  ThreadPool& pool_;
  std::span<const std::byte> rounded_;
  std::span<const int32_t> columns_;
  std::vector<int64_t> place_;
  std::vector<std::byte> band_;
  RoundingError total_;
  uint64_t sum_ = 0;
};

/// Writes the rows of one tensor in a float format.
class RowConverter {
 public:
  RowConverter(const StoredRows& source, const StoredTensor& tensor, const Format& format,
               ThreadPool& pool)
      : source_(source), tensor_(tensor), format_(format), pool_(pool) {}

  int64_t rows_per_band() const {
    return std::max<int64_t>(1, kBandValues / tensor_.view.columns());
  }

  std::span<const std::byte> rows(int64_t before, int64_t begin, int64_t count) {
    const int64_t columns = tensor_.view.columns(), stride = row_bytes(format_, columns);
    const int64_t rows_per_task = std::max<int64_t>(1, kTaskValues / columns);
    band_.resize(static_cast<size_t>(count * stride));
    std::vector<WrittenWeight> parts(static_cast<size_t>(divide_up(count, rows_per_task)));
    pool_.run(std::ssize(parts), [&](int64_t task, int) {
      std::vector<float> values(static_cast<size_t>(columns)), found(values.size());
      const int64_t end = std::min(count, (task + 1) * rows_per_task);
      for (int64_t i = task * rows_per_task; i < end; ++i) {
        std::byte* out = band_.data() + i * stride;
        source_.read(tensor_, before, begin + i, values);
        refuse_too_large(values);
        encode_rows(format_, values.data(), 1, columns, nullptr, Search::kReference, out);
        decode(format_, out, columns, found.data());
        parts[static_cast<size_t>(task)].error.add(rounding_error(values, found));
        parts[static_cast<size_t>(task)].value_sum += value_sum(begin + i, found);
      }
    });
    for (const WrittenWeight& part : parts) {  // in order: the same for any number of threads
      total_.error.add(part.error);
      total_.value_sum += part.value_sum;
    }
    return band_;
  }

  const WrittenWeight& total() const { return total_; }

 private:
  void refuse_too_large(std::span<const float> values) const {
    constexpr float kLargestHalf = 65504.0f;
    const float limit = format_.name == "F16" ? kLargestHalf : std::numeric_limits<float>::max();
    for (const float value : values) {
      if (std::abs(value) <= limit) continue;
      throw Error(fmt::format("tensor '{}': {} is more than {} holds; --type F32 or BF16 does",
                              tensor_.name, value, format_.name));
    }
  }

  const StoredRows& source_;
  const StoredTensor& tensor_;
  const Format& format_;
  ThreadPool& pool_;
  std::vector<std::byte> band_;
  WrittenWeight total_;
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

const Format& kept_format(const Weight& weight) {
  const bool as_stored = !weight.computed || weight.format().name == "F32";
  return as_stored ? weight.format() : format_named("F16");
}

FolderWeights::FolderWeights(const Parts& parts, std::filesystem::path folder)
    : model_(parts.model),
      plan_(parts.plan),
      run_(parts.run),
      pool_(parts.pool),
      target_(parts.target),
      folder_(std::move(folder)) {
  plan_shards(parts.target.shard_bytes);
  open_shards();
}

FolderWeights::~FolderWeights() = default;

std::unique_ptr<LayoutTensor> FolderWeights::tensor_of(const PlannedWeight& planned) const {
  const Weight& weight = *planned.weight;
  if (target_.inputs == Inputs::kStatic && weight.layer < 0) {
    throw Error(
        fmt::format("{}: inputs outside of the layers are not calibrated; leave its format 16-bit",
                    weight.gguf_name));
  }
  const FolderScheme scheme{.format = *planned.emulated,
                            .inputs = target_.inputs,
                            .by_use = target_.by_use,
                            .sparse = target_.sparse};
  return target_.layout->tensor(scheme, module_of(*weight.tensor), weight.rows(), weight.columns());
}

/// Of a weight that is not rounded.
const Format& FolderWeights::float_format(const PlannedWeight& planned) const {
  return target_.layout == nullptr ? *planned.format : kept_format(*planned.weight);
}

std::vector<SafetensorsEntry> FolderWeights::entries_of(const PlannedWeight& planned) const {
  std::vector<SafetensorsEntry> entries;
  if (planned.emulated != nullptr) {
    entries = tensor_of(planned)->entries();
    add_kv_entries(*planned.weight, entries);
    return entries;
  }
  for (const StoredTensor* tensor : stored(model_, *planned.weight)) {
    const Format& format = float_format(planned);
    if (!format.is_float()) {
      throw Error(
          fmt::format("{}: is in {} already and would be copied, which a folder of another "
                      "format cannot hold; start from the 16-bit model",
                      tensor->name, format.name));
    }
    entries.push_back({tensor->name, std::string(format.name), tensor->view.shape,
                       *tensor_bytes(format, tensor->view.shape)});
  }
  add_kv_entries(*planned.weight, entries);
  return entries;
}

/// Scales of the cache stand behind the weights that fill it.
void FolderWeights::add_kv_entries(const Weight& weight,
                                   std::vector<SafetensorsEntry>& entries) const {
  if (!target_.kv_scales) return;
  const auto [key, value] = fills_cache(weight.role);
  if (!key && !value) return;
  const std::string module = module_of(*weight.tensor);
  const std::string attention = module.substr(0, module.rfind('.') + 1);
  if (key) entries.push_back({attention + "k_scale", "F32", {1}, sizeof(float)});
  if (value) entries.push_back({attention + "v_scale", "F32", {1}, sizeof(float)});
}

void FolderWeights::append_kv_scales(const Weight& weight, const RoundedWeight& rounded,
                                     const Pieces& append) const {
  if (!target_.kv_scales) return;
  const auto [key, value] = fills_cache(weight.role);
  const auto append_scale = [&](std::optional<float> largest) {
    if (!largest || !std::isfinite(*largest)) {
      throw Error(fmt::format("{}: keys or values are not finite in calibration, or were not seen",
                              weight.gguf_name));
    }
    const float scale = kv_scale(*largest);
    append(std::as_bytes(std::span(&scale, 1)));
  };
  if (key) append_scale(rounded.largest_key);
  if (value) append_scale(rounded.largest_value);
}

void FolderWeights::plan_shards(int64_t shard_bytes) {
  shards_.emplace_back();
  for (const PlannedWeight& planned : plan_.weights) {
    std::vector<SafetensorsEntry> entries = entries_of(planned);
    int64_t more = 0;
    for (const SafetensorsEntry& entry : entries) more += entry.bytes;
    if (shards_.back().bytes > 0 && shards_.back().bytes + more > shard_bytes) {
      shards_.emplace_back();
    }
    Shard& shard = shards_.back();
    places_.push_back({shards_.size() - 1, shard.bytes, more});
    shard.bytes += more;
    std::move(entries.begin(), entries.end(), std::back_inserter(shard.entries));
  }
}

/// A run that stopped behind finish() left files that have their names already.
void FolderWeights::open_shards() {
  for (size_t i = 0; i < shards_.size(); ++i) {
    const std::filesystem::path name = folder_ / shard_name(i);
    std::error_code ignored;
    std::filesystem::rename(name, beside_output(name, "partial"), ignored);
    shards_[i].writer = std::make_unique<SafetensorsWriter>(name, shards_[i].entries,
                                                            OutputFile::Lifetime::kResumed);
  }
}

std::string FolderWeights::shard_name(size_t index) const {
  if (shards_.size() == 1) return kSingleFile;
  return fmt::format("model-{:05}-of-{:05}.safetensors", index + 1, shards_.size());
}

int64_t FolderWeights::bytes_in(size_t shard, size_t weights) const {
  int64_t bytes = 0;
  for (size_t i = 0; i < weights; ++i) {
    if (places_[i].shard == shard) bytes = places_[i].offset + places_[i].bytes;
  }
  return bytes;
}

void FolderWeights::read(size_t weight, int64_t offset, std::span<std::byte> out) const {
  const Place& place = places_[weight];
  shards_[place.shard].writer->read(place.offset + offset, out);
}

bool FolderWeights::holds(size_t weights) const {
  for (size_t i = 0; i < shards_.size(); ++i) {
    if (!shards_[i].writer->holds(bytes_in(i, weights))) return false;
  }
  return true;
}

void FolderWeights::resume(std::span<const WrittenWeight> weights) {
  for (size_t i = 0; i < shards_.size(); ++i) {
    shards_[i].writer->resume(bytes_in(i, weights.size()));
  }
}

void FolderWeights::sync() {
  for (Shard& shard : shards_) shard.writer->sync();
}

void FolderWeights::keep() {
  for (Shard& shard : shards_) shard.writer->keep();
  kept_ = true;
}

int64_t FolderWeights::file_bytes() const {
  int64_t bytes = 0;
  for (const Shard& shard : shards_) bytes += shard.writer->file_bytes();
  return bytes;
}

WrittenWeight FolderWeights::write(size_t weight, const RoundedWeight& rounded,
                                   const Pieces& pieces) {
  const PlannedWeight& planned = plan_.weights[weight];
  SafetensorsWriter& writer = *shards_[places_[weight].shard].writer;
  const Pieces append = [&](std::span<const std::byte> bytes) {
    writer.append(bytes);
    pieces(bytes);
  };
  const bool stored = target_.layout != nullptr && !planned.weight->computed;
  const WrittenWeight written = planned.emulated ? round(planned, rounded, append)
                                : stored         ? copy(*planned.weight, append)
                                                 : convert(planned, append);
  append_kv_scales(*planned.weight, rounded, append);
  return written;
}

WrittenWeight FolderWeights::copy(const Weight& weight, const Pieces& append) {
  WrittenWeight all;
  for (const StoredTensor* tensor : stored(model_, weight)) {
    std::vector<std::byte> scratch, band;
    std::vector<float> values(static_cast<size_t>(tensor->view.columns()));
    for (int64_t row = 0; row < tensor->view.rows(); ++row) {
      const auto bytes = tensor->row(row, scratch);
      band.insert(band.end(), bytes.begin(), bytes.end());
      if (std::ssize(band) >= kCopiedBytes || row + 1 == tensor->view.rows()) {
        throw_if_interrupted();
        append(band);
        band.clear();
        tensor->drop_pages();
      }
      read_stored_row(*tensor, row, values, scratch);
      all.error.add(rounding_error(values, values));
      all.value_sum += value_sum(row, values);
    }
  }
  return all;
}

WrittenWeight FolderWeights::convert(const PlannedWeight& planned, const Pieces& append) {
  const Weight& weight = *planned.weight;
  WrittenWeight all;
  const StoredRows rows(weight);
  const Format& format = float_format(planned);
  const std::vector<const StoredTensor*> tensors = stored(model_, weight);
  for (size_t part = 0; part < tensors.size(); ++part) {
    const int64_t count = tensors[part]->view.rows();
    RowConverter converter(rows, *tensors[part], format, pool_);
    for (int64_t row = 0; row < count; row += converter.rows_per_band()) {
      throw_if_interrupted();
      append(converter.rows(static_cast<int64_t>(part) * count, row,
                            std::min(converter.rows_per_band(), count - row)));
      weight.drop_pages();
    }
    all.error.add(converter.total().error);
    all.value_sum += converter.total().value_sum;
  }
  return all;
}

WrittenWeight FolderWeights::round(const PlannedWeight& planned, const RoundedWeight& rounded,
                                   const Pieces& append) {
  const Weight& weight = *planned.weight;
  RowRounder rounder(planned, rounded, run_, pool_);
  if (target_.sparse) rounder.keep_two_of_four();
  const auto tensor = tensor_of(planned);
  tensor->set_columns(rounded.columns);
  const int64_t band =
      round_up(std::max<int64_t>(1, kBandValues / weight.columns()), tile_rows(*planned.emulated));
  for (int64_t row = 0; row < weight.rows(); row += band) {
    throw_if_interrupted();
    const int64_t count = std::min(band, weight.rows() - row);
    append(tensor->append_rows(rounder.rows(row, count)));
  }
  if (target_.inputs == Inputs::kStatic) {
    if (!rounded.largest_input) {
      throw Error(fmt::format("{}: its inputs are not calibrated", weight.gguf_name));
    }
    tensor->set_largest_input(*rounded.largest_input);
  }
  append(tensor->rest());
  weight.drop_pages();
  return {rounder.total(), rounder.sum()};
}

void FolderWeights::finish() {
  for (Shard& shard : shards_) {
    if (run_.verify) shard.writer->verify_header();
    shard.writer->commit();
  }
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

void FolderWeights::verify(std::span<const WrittenWeight> weights) const {
  const Model model = open_model(folder_);
  for (size_t i = 0; i < plan_.weights.size(); ++i) {
    throw_if_interrupted();
    const Weight& weight = *plan_.weights[i].weight;
    if (stored(model_, weight).empty()) continue;
    const auto found = std::ranges::find(model.weights, weight.gguf_name, &Weight::gguf_name);
    uint64_t sum = 0;
    if (found != model.weights.end()) {
      for (const StoredTensor* tensor : stored(model, *found)) {
        sum += value_sum(*tensor, pool_);
      }
    }
    if (found == model.weights.end() || sum != weights[i].value_sum) {
      throw Error(
          fmt::format("{}: '{}' reads back as something else than was written; is the disk "
                      "sound?",
                      folder_.string(), weight.gguf_name));
    }
  }
}

}  // namespace fewbits
