#include "pipeline/preflight.h"

#include <fmt/format.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <map>
#include <set>
#include <utility>

#include "base/checked_math.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/text.h"
#include "base/timing.h"
#include "calibrate/blas.h"
#include "calibrate/samples.h"
#include "calibrate/sites.h"
#include "files/output_file.h"
#include "pipeline/calibration_memory.h"
#include "pipeline/tensor_outer.h"

namespace fewbits {
namespace {

namespace fs = std::filesystem;

// What no sum below names: stacks, buffers of libraries, what lies between blocks of the heap.
constexpr int64_t kOverhead = int64_t{6} << 20;
constexpr int64_t kOverheadPerThread = int64_t{1} << 18;
constexpr int64_t kHashWindow = int64_t{8} << 20;  // files/file_hash.cc
constexpr int64_t kJournal = int64_t{64} << 10;
constexpr double kShareOfFree = 0.6;

// Rates that nothing measures here. Disks differ; this is a slow one of today.
constexpr double kReadBytesPerSecond = 1e9;
// Of the speed of a product that stays in the cache, what GPTQ and the samples come to.
constexpr double kBlasShare = 0.7;

int64_t disk_free_at(const fs::path& out) {
  std::error_code error;
  const fs::path folder = fs::absolute(out, error).parent_path();
  struct statvfs status {};
  if (error || ::statvfs(folder.c_str(), &status) != 0) return INT64_MAX;
  return checked_multiply(static_cast<int64_t>(status.f_bavail),
                          static_cast<int64_t>(status.f_frsize))
      .value_or(INT64_MAX);
}

/// Seconds in which one thread encodes a value, measured on a weight of the model itself.
double seconds_per_value(const PlannedWeight& planned, Search search) {
  constexpr int64_t kValues = 1 << 14;
  const Weight& weight = *planned.weight;
  const Format& format = planned.rounded_format();
  const int64_t columns = weight.columns();
  const int64_t rows = std::min(weight.rows(), std::max<int64_t>(1, kValues / columns));
  std::vector<float> values(static_cast<size_t>(rows * columns));
  for (int64_t i = 0; i < rows; ++i) weight.read_row(i, values.data() + i * columns);
  // The parameters that a tensor shares are found in all of it: too long for a guess.
  if (format.fit_tensor) return 0;
  std::vector<std::byte> bytes(static_cast<size_t>(rows * row_bytes(format, columns)));
  const double seconds = best_seconds(1, 0, [&] {
    encode_rows(format, values.data(), rows, columns, nullptr, search, bytes.data());
  });
  weight.drop_pages();
  return seconds / static_cast<double>(rows * columns);
}

double encoding_seconds(const RunRequest& request, int threads) {
  std::map<const Format*, double> rates;
  double seconds = 0;
  for (const PlannedWeight& planned : request.plan.weights) {
    const Weight& weight = *planned.weight;
    const Format* format = &planned.rounded_format();
    const bool copied = format == &weight.format() && !planned.emulated;
    const bool calibrated = !request.samples.empty() && weight.layer >= 0;
    if (copied || calibrated || !weight.is_matrix()) continue;
    if (!rates.contains(format)) rates[format] = seconds_per_value(planned, request.search);
    seconds += rates[format] * static_cast<double>(weight.values());
  }
  return seconds / threads;
}

/// Multiplications and additions a second, of one thread.
double blas_speed() {
  constexpr int kSize = 256;
  std::vector<float> a(kSize * kSize, 1.0f), b(a), c(a);
  const BlasCall call;
  const double seconds = best_seconds(3, 0, [&] {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, kSize, kSize, kSize, 1.0f, a.data(),
                kSize, b.data(), kSize, 0.0f, c.data(), kSize);
  });
  return 2.0 * kSize * kSize * kSize / seconds;
}

double calibration_seconds(const RunRequest& request, int threads) {
  if (request.samples.empty()) return 0;
  // A matrix of r rows and n columns: so many times r n^2, as bench/gptq_bench counts them, for
  // GPTQ and its error, and for each pass of the descent.
  const double products = 3.0 + 3.1 * request.calibration.gptq.descent_passes;
  constexpr double kFactor = 2.0;   // n^3 for each site, Cholesky and inverse in double precision
  constexpr double kForward = 8.0;  // four passes that stop early, two that do not; 2 operations
  const auto tokens = static_cast<double>(tokens_in(request.samples));
  const bool follows = streams_fitting(request.calibration.streams, request.model).follow_outputs;
  const auto hidden = static_cast<double>(request.model.config.hidden);
  double operations = 0;
  const double learned =
      learning_operations(std::ssize(request.samples.front()), request.calibration.learning);
  std::set<std::pair<int64_t, size_t>> sites;  // layer, site
  for (const PlannedWeight& planned : request.plan.weights) {
    const Weight& weight = *planned.weight;
    if (weight.layer < 0 || !weight.is_matrix()) continue;
    operations += learned * static_cast<double>(weight.values());
    const auto rows = static_cast<double>(weight.rows()), n = static_cast<double>(weight.columns());
    operations += kForward * rows * n * tokens;
    if (planned.rounded_format().is_float()) continue;
    constexpr double kAim = 4.0;  // a product, and two with triangles
    operations += rows * n * n * (products + (follows ? kAim : 0));
    const size_t site = site_of(weight.role);
    const bool shared =
        site < std::size(kSitesOfLayer) && !sites.insert({weight.layer, site}).second;
    if (shared) continue;
    operations += kFactor * n * n * n + tokens * n * n;
    if (follows) operations += 2 * tokens * std::max(n, hidden) * n;
  }
  return operations / (blas_speed() * kBlasShare * threads);
}

int64_t output_bytes(const RunRequest& request) {
  if (!request.writes_folder) return request.plan.bytes_out;
  int64_t bytes = 0;
  for (const PlannedWeight& planned : request.plan.weights) {
    const Weight& weight = *planned.weight;
    bytes += planned.emulated != nullptr
                 ? weight.rows() * row_bytes(*planned.emulated, weight.columns())
                 : weight.stored_bytes();
  }
  return bytes;
}

/// What a calibrated run rounded and its output holds as something else (weights_run.h).
int64_t bytes_aside(const RunRequest& request) {
  int64_t bytes = 0;
  if (request.samples.empty()) return 0;
  for (const PlannedWeight& planned : request.plan.weights) {
    const Weight& weight = *planned.weight;
    if (planned.emulated == nullptr || weight.layer < 0) continue;
    bytes += weight.rows() * row_bytes(*planned.emulated, weight.columns());
    if (request.calibration.sort_columns) bytes += weight.columns() * int64_t{sizeof(int32_t)};
  }
  return bytes;
}

/// What an earlier run left of this output is taken over or replaced.
int64_t bytes_left_beside(const fs::path& out) {
  int64_t bytes = 0;
  const auto add = [&](const fs::path& file) {
    std::error_code none;
    const auto size = fs::file_size(file, none);
    if (!none) bytes += static_cast<int64_t>(size);
  };
  for (const fs::path& left : left_beside(out)) {
    std::error_code none;
    if (!fs::is_directory(left, none)) add(left);
    for (fs::directory_iterator it(left, none), end; !none && it != end; it.increment(none)) {
      add(it->path());
    }
  }
  return bytes;
}

/// Weights of both models and the logits of a window.
int64_t comparing_bytes(const RunRequest& request) {
  constexpr int64_t kWindow = 512;
  const int64_t vocabulary = request.model.config.vocabulary;
  const int64_t logits = 2 * kWindow * vocabulary * static_cast<int64_t>(sizeof(float));
  int64_t bytes = 0;
  if (request.loads_model || request.certifies) bytes += request.model.store.file_bytes() + logits;
  if (request.certifies) bytes += request.plan.bytes_out;
  return bytes;
}

}  // namespace

int64_t default_memory_limit() {
  return static_cast<int64_t>(kShareOfFree * static_cast<double>(available_memory_bytes()));
}

RunNeeds run_needs(const RunRequest& request, ThreadPool& pool) {
  RunNeeds needs;
  const int64_t source = request.model.store.file_bytes();
  needs.bytes_read = request.hashes_source ? 2 * source : source;
  needs.bytes_written = output_bytes(request);
  needs.memory_limit = request.memory_limit > 0 ? request.memory_limit : default_memory_limit();

  const int64_t before = resident_memory_bytes() + request.edits_memory + kOverhead +
                         kOverheadPerThread * pool.threads();
  int64_t working = encoding_memory(request.plan, pool.threads());
  if (request.hashes_source) working = std::max(working, std::min(kHashWindow, source));
  CalibrationMemory calibration;
  if (!request.samples.empty()) {
    calibration = calibration_memory(request.model, request.plan, request.samples,
                                     request.calibration, pool.threads());
  }
  // The output of a folder is opened once it is written.
  const int64_t opened = request.writes_folder ? request.opened_memory : 0;
  working = std::max({working, calibration.rest, comparing_bytes(request), opened});
  if (before + working + calibration.states > needs.memory_limit) {
    needs.spilled = std::exchange(calibration.states, 0);
  }
  needs.memory = std::max(before + working + calibration.states, peak_memory_bytes());
  needs.disk = needs.bytes_written + bytes_aside(request) + needs.spilled + kJournal;
  needs.disk_free = disk_free_at(request.out);
  if (needs.disk_free != INT64_MAX) needs.disk_free += bytes_left_beside(request.out);
  needs.seconds = encoding_seconds(request, pool.threads()) +
                  calibration_seconds(request, pool.threads()) +
                  static_cast<double>(needs.bytes_read + needs.bytes_written) / kReadBytesPerSecond;
  return needs;
}

void refuse_impossible(const RunNeeds& needs, const RunRequest& request) {
  if (needs.memory > needs.memory_limit) {
    std::string advice = "allow that much (--memory)";
    if (!request.samples.empty()) advice += ", or calibrate with shorter samples (--sample-length)";
    if (request.certifies) advice += ", or leave out --certify";
    throw Error(fmt::format("{}: {} of memory are needed, {} may be used; {}", request.out.string(),
                            human_bytes(needs.memory), human_bytes(needs.memory_limit), advice));
  }
  if (needs.disk > needs.disk_free) {
    throw Error(
        fmt::format("{}: {} would be written, but the disk has {} free; free {} or write "
                    "elsewhere",
                    request.out.string(), human_bytes(needs.disk), human_bytes(needs.disk_free),
                    human_bytes(needs.disk - needs.disk_free)));
  }
}

}  // namespace fewbits
