#include "pipeline/tuning_checkpoint.h"

#include <algorithm>
#include <cstring>
#include <span>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "base/sha256.h"
#include "base/text_view.h"
#include "base/timing.h"
#include "files/output_file.h"

namespace fewbits {
namespace {

constexpr int64_t kSchema = 1;
constexpr const char* kSchemaKey = "fewbits_tuning";
constexpr size_t kHashDigits = 64;

int64_t floats_in(const TuningState& state) {
  int64_t count = 0;
  for (const auto array : state.arrays) count += std::ssize(array);
  return count;
}

Json header_of(const TuningState& state, const std::string& run, double seconds) {
  return {{kSchemaKey, kSchema},        {"run", run},
          {"floats", floats_in(state)}, {"steps", state.steps},
          {"tokens", state.tokens},     {"before", state.before},
          {"after", state.after},       {"seconds", seconds}};
}

/// The line of a whole file; null where it is none.
Json header_in(std::string_view text, size_t& end) {
  end = text.find('\n');
  if (end == std::string_view::npos) return nullptr;
  try {
    return parse_json(text.substr(0, end), "checkpoint");
  } catch (const Error&) {
    return nullptr;
  }
}

bool is_whole(std::span<const std::byte> bytes) {
  if (bytes.size() < kHashDigits) return false;
  const auto content = bytes.first(bytes.size() - kHashDigits);
  return sha256(content) == text_view(bytes.last(kHashDigits));
}

}  // namespace

TuningCheckpoint::TuningCheckpoint(const std::filesystem::path& out, std::string run)
    : path_(beside_output(out, kTuningKind)), run_(std::move(run)) {
  std::error_code ignored;
  exists_ = std::filesystem::exists(path_, ignored);
}

TuningCheckpoint::~TuningCheckpoint() {
  std::error_code ignored;
  if (exists_ && !keep_) std::filesystem::remove(path_, ignored);
}

bool TuningCheckpoint::load(TuningState& state) {
  if (!exists_) return false;
  const MappedFile file = MappedFile::open(path_);
  if (!is_whole(file.bytes())) return false;
  size_t begin = 0;
  const Json header = header_in(text_view(file.bytes()), begin);
  const size_t bytes = static_cast<size_t>(floats_in(state)) * sizeof(float);
  const bool ours = header.is_object() && header.value(kSchemaKey, int64_t{0}) == kSchema &&
                    header.value("run", "") == run_ &&
                    file.bytes().size() == begin + 1 + bytes + kHashDigits;
  if (!ours) return false;
  state.steps = header.value("steps", int64_t{0});
  state.tokens = header.value("tokens", int64_t{0});
  state.before = header.value("before", 0.0);
  state.after = header.value("after", 0.0);
  seconds_before_ = header.value("seconds", 0.0);
  auto rest = file.bytes().subspan(begin + 1);
  for (const auto array : state.arrays) {
    std::memcpy(array.data(), rest.data(), array.size_bytes());
    rest = rest.subspan(array.size_bytes());
  }
  return true;
}

void TuningCheckpoint::save_if_due(const TuningState& state, double seconds) {
  constexpr double kRunsOfOne = 20;
  const double begin = seconds_now();
  if (begin - last_end_ < kRunsOfOne * last_cost_) return;
  save(state, seconds);
  last_end_ = seconds_now();
  last_cost_ = last_end_ - begin;
}

void TuningCheckpoint::save(const TuningState& state, double seconds) {
  const std::string line = header_of(state, run_, seconds_before_ + seconds).dump() + "\n";
  OutputFile file(path_, std::ssize(line) + floats_in(state) * int64_t{sizeof(float)});
  Sha256 hash;
  const auto append = [&](std::span<const std::byte> part) {
    file.append(part);
    hash.update(part);
  };
  append(std::as_bytes(std::span(line)));
  for (const auto array : state.arrays) append(std::as_bytes(array));
  const std::string digits = hash.so_far();
  file.append(std::as_bytes(std::span(digits)));
  file.commit();
  exists_ = true;
}

bool TuningCheckpoint::keep() {
  keep_ = exists_;
  return exists_;
}

}  // namespace fewbits
