#include "pipeline/weights_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/interrupt.h"
#include "base/timing.h"

namespace fewbits {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kWindowBytes = int64_t{1} << 20;

/// Calls use(window) for one part of `size` bytes after the other, read(offset, window) before it.
template <class Read, class Use>
void for_each_window(int64_t size, Read read, Use use) {
  std::vector<std::byte> window(static_cast<size_t>(std::min(size, kWindowBytes)));
  for (int64_t begin = 0; begin < size; begin += kWindowBytes) {
    throw_if_interrupted();
    const auto part =
        std::span(window).first(static_cast<size_t>(std::min(kWindowBytes, size - begin)));
    read(begin, part);
    use(part);
  }
}

void add_to_hash(const WeightOutput& output, size_t weight, Sha256& hash) {
  for_each_window(
      output.bytes(weight), [&](int64_t begin, auto part) { output.read(weight, begin, part); },
      [&](auto part) { hash.update(part); });
}

/// Of the weights that a record adds; empty where it is none of ours.
std::vector<WrittenWeight> written_of(const Json& record) {
  std::vector<WrittenWeight> written;
  const auto weights = record.find("weights");
  if (weights == record.end() || !weights->is_array()) return written;
  for (const Json& weight : *weights) {
    const bool ours = weight.is_array() && weight.size() == 3 && weight[0].is_number() &&
                      weight[1].is_number() && weight[2].is_number_unsigned();
    if (!ours) return {};
    written.push_back(
        {{weight[0].get<double>(), weight[1].get<double>()}, weight[2].get<uint64_t>()});
  }
  return written;
}

/// OUT.rounded: never written itself, but what lies beside it until the output is whole.
fs::path rounded_name(fs::path out) {
  out += kRoundedSuffix;
  return out;
}

}  // namespace

WeightsRun::WeightsRun(const QuantizePlan& plan, const QuantizeRun& run, const fs::path& out,
                       WeightOutput& output)
    : plan_(plan), run_(run), out_(out), output_(output) {
  open_rounded();
}

WeightsRun::~WeightsRun() = default;

void WeightsRun::finish(const std::function<void()>& complete) {
  try {
    resume();
    while (done() < plan_.weights.size()) {
      write_next();
      if (ends_layer(done() - 1)) checkpoint();
    }
    if (run_.verify) verify();
    complete();
  } catch (const Interrupted& error) {
    throw Interrupted(kept(error.what()));
  } catch (const DiskError& error) {
    throw DiskError(kept(error.what()));
  }
}

int64_t WeightsRun::bytes_of_plan(size_t weight) const {
  const PlannedWeight& planned = plan_.weights[weight];
  return planned.weight->rows() * row_bytes(*planned.format, planned.weight->columns());
}

bool WeightsRun::ends_layer(size_t weight) const {
  return weight + 1 == plan_.weights.size() ||
         plan_.weights[weight].weight->layer != plan_.weights[weight + 1].weight->layer;
}

bool WeightsRun::goes_to_rounded(size_t weight) const {
  return plan_.weights[weight].emulated != nullptr && plan_.weights[weight].weight->layer >= 0;
}

/// Without the order of its columns.
int64_t WeightsRun::bytes_of_rounded(size_t weight) const {
  const PlannedWeight& planned = plan_.weights[weight];
  return planned.weight->rows() * row_bytes(*planned.emulated, planned.weight->columns());
}

void WeightsRun::open_rounded() {
  if (run_.journal == nullptr || !run_.restore) return;
  std::vector<int64_t> offsets = {0};
  for (size_t i = 0; i < plan_.weights.size(); ++i) {
    const int64_t columns = run_.sorts_columns ? plan_.weights[i].weight->columns() : 0;
    const int64_t bytes =
        goes_to_rounded(i) ? bytes_of_rounded(i) + columns * int64_t{sizeof(int32_t)} : 0;
    offsets.push_back(offsets.back() + bytes);
  }
  if (offsets.back() == 0) return;
  rounded_.reset(
      new Rounded{OutputFile(rounded_name(out_), offsets.back(), OutputFile::Lifetime::kResumed),
                  {},
                  std::move(offsets)});
}

/// Of the weight that comes next.
void WeightsRun::keep_rounded(const RoundedWeight& rounded) {
  if (rounded_ == nullptr || !goes_to_rounded(done())) return;
  const auto bytes = static_cast<size_t>(rounded_->offsets[done() + 1] - rounded_->offsets[done()]);
  const auto keep = [&](std::span<const std::byte> part) {
    rounded_->file.append(part);
    rounded_->hash.update(part);
  };
  // What the method left alone is never asked for, but has its place.
  if (rounded.bytes.empty()) return keep(std::vector<std::byte>(bytes));
  const auto columns = std::as_bytes(rounded.columns);
  check(rounded.bytes.size() + columns.size() == bytes);
  keep(rounded.bytes);
  keep(columns);
}

void WeightsRun::add(const WrittenWeight& weight, std::string hash) {
  bytes_done_ += bytes_of_plan(done());
  hashes_.push_back(std::move(hash));
  written_.push_back(weight);
}

void WeightsRun::tell(int64_t bytes, const Weight& weight) const {
  if (run_.progress) run_.progress(bytes, plan_.bytes_out, weight.gguf_name);
}

void WeightsRun::write_next() {
  const PlannedWeight& planned = plan_.weights[done()];
  const auto rounded = run_.encoder ? run_.encoder(planned) : RoundedWeight();
  const int64_t size = output_.bytes(done());
  int64_t bytes = 0;
  const WrittenWeight written = output_.write(done(), rounded, [&](auto piece) {
    hash_.update(piece);
    bytes += std::ssize(piece);
    const double share =
        static_cast<double>(bytes) / static_cast<double>(std::max<int64_t>(1, size));
    tell(bytes_done_ + static_cast<int64_t>(share * static_cast<double>(bytes_of_plan(done()))),
         *planned.weight);
  });
  keep_rounded(rounded);
  add(written, hash_.so_far());
}

/// What is done now is done, whatever happens. Layers that cost much are always worth a line of
/// the journal; of others there is one now and then.
void WeightsRun::checkpoint() {
  constexpr double kSecondsBetween = 0.5;
  if (run_.journal == nullptr) return;
  if (!run_.encoder && seconds_now() - last_checkpoint_ < kSecondsBetween) return;
  output_.sync();
  Json record = {{"tensors", done()}, {"sha256", hash_.so_far()}, {"weights", Json::array()}};
  for (size_t i = journaled_; i < done(); ++i) {
    record["weights"].push_back(
        {written_[i].error.error, written_[i].error.square, written_[i].value_sum});
  }
  if (rounded_ != nullptr) {
    rounded_->file.sync();
    record["rounded_sha256"] = rounded_->hash.so_far();
  }
  run_.journal->append(record);
  journaled_ = done();
  last_checkpoint_ = seconds_now();
}

/// Takes over what the journal says and the output holds.
void WeightsRun::resume() {
  if (run_.journal != nullptr) {
    size_t records = 0;
    for (const Json& record : run_.journal->records()) {
      if (!take_over(record)) break;
      ++records;
    }
    run_.journal->truncate(records);
    journaled_ = done();
  }
  if (run_.restore) restore_layers();
  output_.resume(written_);
  if (rounded_ != nullptr) rounded_->file.truncate(rounded_->offsets[done()]);
}

/// False where the record is none of ours or the bytes are not there as it says.
bool WeightsRun::take_over(const Json& record) {
  const int64_t count = json_integer_or(record, "tensors", 0, "journal");
  if (count <= std::ssize(written_) || count > std::ssize(plan_.weights)) return false;
  const auto end = static_cast<size_t>(count);
  const std::vector<WrittenWeight> more = written_of(record);
  if (more.size() != end - done() || !output_.holds(end)) return false;
  Sha256 hash(hash_);
  std::vector<std::string> hashes;
  for (size_t i = done(); i < end; ++i) {
    add_to_hash(output_, i, hash);
    hashes.push_back(hash.so_far());
  }
  if (json_string_or(record, "sha256", "", "journal") != hash.so_far()) return false;
  if (rounded_ != nullptr && !take_over_rounded(record, end)) return false;
  hash_ = std::move(hash);
  for (size_t i = 0; i < more.size(); ++i) add(more[i], std::move(hashes[i]));
  return true;
}

bool WeightsRun::take_over_rounded(const Json& record, size_t end) {
  const int64_t begin = rounded_->offsets[done()], size = rounded_->offsets[end] - begin;
  if (rounded_->file.size() < begin + size) return false;
  Sha256 hash(rounded_->hash);
  for_each_window(
      size, [&](int64_t at, auto part) { rounded_->file.read(begin + at, part); },
      [&](auto part) { hash.update(part); });
  if (json_string_or(record, "rounded_sha256", "", "journal") != hash.so_far()) return false;
  rounded_->hash = std::move(hash);
  return true;
}

void WeightsRun::restore_layers() {
  int64_t bytes = 0;
  for (size_t i = 0; i < done(); ++i) {
    const Weight& weight = *plan_.weights[i].weight;
    bytes += bytes_of_plan(i);
    if (weight.layer < 0 || !ends_layer(i)) continue;
    throw_if_interrupted();
    tell(bytes, weight);
    run_.restore(weight.layer, [&](const Weight& asked) { return rounded_before(asked); });
  }
  restored_ = {};
}

RoundedWeight WeightsRun::rounded_before(const Weight& weight) {
  size_t i = 0;
  while (plan_.weights[i].weight != &weight) ++i;
  const bool aside = rounded_ != nullptr && goes_to_rounded(i);
  restored_.resize(static_cast<size_t>(aside ? bytes_of_rounded(i) : output_.bytes(i)));
  restored_columns_.resize(aside && run_.sorts_columns ? static_cast<size_t>(weight.columns()) : 0);
  if (aside) {
    const int64_t begin = rounded_->offsets[i];
    rounded_->file.read(begin, restored_);
    rounded_->file.read(begin + std::ssize(restored_),
                        std::as_writable_bytes(std::span(restored_columns_)));
  } else {
    output_.read(i, 0, restored_);
  }
  return {.bytes = restored_, .columns = restored_columns_};
}

/// The bytes that lie on the disk are those that were encoded.
void WeightsRun::verify() const {
  output_.sync();
  Sha256 hash;
  int64_t bytes = 0;
  for (size_t i = 0; i < done(); ++i) {
    const std::string& name = plan_.weights[i].weight->gguf_name;
    add_to_hash(output_, i, hash);
    if (hash.so_far() != hashes_[i]) {
      throw Error(
          fmt::format("{}: '{}' reads back as something else than was written, so nothing is kept; "
                      "is the disk sound?",
                      out_.string(), name));
    }
    bytes += bytes_of_plan(i);
    if (run_.read_back) run_.read_back(bytes, bytes_done_, name);
  }
}

/// Keeps what can be gone on from, and says so behind `message`.
std::string WeightsRun::kept(std::string_view message) {
  if (run_.journal == nullptr || run_.journal->records().empty()) {
    return fmt::format("{}; nothing was kept", message);
  }
  output_.keep();
  if (rounded_ != nullptr) rounded_->file.keep();
  run_.journal->keep();
  return fmt::format("{}; {} of {} tensors are done and kept: {}", message, journaled_,
                     plan_.weights.size(), kGoesOn);
}

}  // namespace fewbits
