// Speed of the kernels as a share of what this machine can do: read bandwidth for one token, int8
// or FMA peak for many, or that of the unit for matrices.
//
//   kernels_bench [--isa NAME] [--threads N] [--rows N] [--columns N] [--tokens N] [FORMAT ...]
//
// Every line is the best of several runs; other load on the machine only ever makes a run slower.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "base/half.h"
#include "base/normal_values.h"
#include "base/timing.h"
#include "kernels/kernel_table.h"
#include "kernels/machine_limits.h"
#include "kernels/matmul.h"

namespace fewbits {
namespace {

struct Options {
  int threads = 0;
  int64_t rows = 2048;
  int64_t columns = 2048;
  int64_t tokens = 512;
  std::vector<std::string> formats;
};

/// Seconds of the fastest run; runs for about half a second.
double best_seconds(const std::function<void()>& run) {
  return fewbits::best_seconds(3, 0.4, run);
}

/// Matrices of one shape, enough of them to fall out of the last-level cache.
std::vector<PackedMatrix> make_matrices(const Format& format, const Options& options,
                                        int64_t total_bytes, ThreadPool& pool) {
  const int64_t bytes = options.rows * row_bytes(format, options.columns);
  std::vector<std::byte> encoded(static_cast<size_t>(bytes));
  const auto values = normal_values(options.columns, 1);
  for (int64_t row = 0; row < options.rows; ++row) {
    encode_rows(format, values.data(), 1, options.columns, nullptr, Search::kReference,
                encoded.data() + row * row_bytes(format, options.columns));
  }
  std::vector<PackedMatrix> matrices;
  const TensorView view{&format, {options.rows, options.columns}, encoded};
  for (int64_t done = 0; done < total_bytes; done += bytes)
    matrices.push_back(PackedMatrix::pack(view, {}, {}, pool));
  return matrices;
}

/// `tokens` tokens times each of the matrices, one after the other.
double seconds_of(const std::vector<PackedMatrix>& matrices, int64_t tokens, const Options& options,
                  ThreadPool& pool) {
  const auto inputs = normal_values(tokens * options.columns, 1);
  std::vector<float> out(static_cast<size_t>(tokens * options.rows));
  Activations activations;
  return best_seconds([&] {
    for (const PackedMatrix& matrix : matrices) {
      activations.assign(inputs.data(), tokens, options.columns);
      const MatrixProduct product{&matrix, out.data(), options.rows};
      multiply({&product, 1}, activations, pool);
    }
  });
}

double operations(const std::vector<PackedMatrix>& matrices, int64_t tokens,
                  const Options& options) {
  return 2.0 * static_cast<double>(std::ssize(matrices) * options.rows * options.columns * tokens);
}

void measure_decode(const Format& format, const Options& options, const MachineLimits& limits,
                    ThreadPool& pool) {
  const auto matrices = make_matrices(format, options, int64_t{1} << 30, pool);
  const double bytes = static_cast<double>(std::ssize(matrices) * matrices[0].bytes());
  const double rate = bytes / seconds_of(matrices, 1, options, pool);
  fmt::print("{:7} decode   {:7.2f} GB/s   {:5.1f} % of read bandwidth\n", format.name, rate * 1e-9,
             100 * rate / limits.read_bytes);
}

/// A few tokens times weights from memory, as a batch of sequences decodes: the limit is the sum of
/// neither part alone, so both shares are printed.
void measure_batch(const Format& format, const Options& options, const MachineLimits& limits,
                   ThreadPool& pool) {
  constexpr int64_t kTokens = 8;
  const auto matrices = make_matrices(format, options, int64_t{1} << 29, pool);
  const double seconds = seconds_of(matrices, kTokens, options, pool);
  const double bytes = static_cast<double>(std::ssize(matrices) * matrices[0].bytes()) / seconds;
  const double rate = operations(matrices, kTokens, options) / seconds;
  const double limit = format.is_float() ? limits.float_operations : limits.int8_operations;
  fmt::print("{:7} batch of {} {:7.2f} GB/s {:5.1f} % of read bandwidth, {:7.1f} GOP/s {:5.1f} %\n",
             format.name, kTokens, bytes * 1e-9, 100 * bytes / limits.read_bytes, rate * 1e-9,
             100 * rate / limit);
}

void measure_prefill(const Format& format, const Options& options, const MachineLimits& limits,
                     ThreadPool& pool) {
  const auto matrices = make_matrices(format, options, 1, pool);
  const double rate = operations(matrices, options.tokens, options) /
                      seconds_of(matrices, options.tokens, options, pool);
  const double limit = format.is_float() ? limits.many_floats() : limits.many_codes();
  fmt::print("{:7} {:4} tok {:7.1f} GOP/s  {:5.1f} % of {} peak\n", format.name, options.tokens,
             rate * 1e-9, 100 * rate / limit,
             limits.tile_operations > 0 ? "tile"
             : format.is_float()        ? "FMA"
                                        : "int8");
}

/// One layer's attention: 8 key/value heads of 128, 4 queries of each, `keys` cached.
void measure_attention(int64_t keys, int64_t tokens, const MachineLimits& limits,
                       ThreadPool& pool) {
  constexpr int64_t kHeads = 8, kDim = 128, kGroup = 4;
  const int64_t queries = kGroup * tokens;
  const std::vector<uint16_t> cache(static_cast<size_t>(kHeads * keys * kDim),
                                    half_from_float(0.1f));
  const auto query = normal_values(queries * kDim, 1);
  std::vector<int64_t> visible(static_cast<size_t>(queries), keys);
  std::vector<float> out(static_cast<size_t>(kHeads * queries * kDim));
  const int64_t scratch_size = attention_scratch_floats(queries, kDim, kDim);
  std::vector<float> scratch(static_cast<size_t>(kHeads * scratch_size));
  const std::vector<uint16_t> values = cache;
  const double seconds = best_seconds([&] {
    pool.run(kHeads, [&](int64_t head, int) {
      kernels().attend(
          {.queries = query.data(),
           .query_stride = kDim,
           .recent = {cache.data() + head * keys * kDim, values.data() + head * keys * kDim},
           .visible = visible.data(),
           .query_count = queries,
           .head_dim = kDim,
           .value_dim = kDim,
           .out = out.data() + head * queries * kDim,
           .scratch = scratch.data() + head * scratch_size});
    });
  });
  const double bytes = 4.0 * static_cast<double>(kHeads * keys * kDim);
  const double operations = 4.0 * static_cast<double>(kHeads * keys * kDim * queries);
  fmt::print(
      "attention {:5} keys {:4} tok  {:7.2f} GB/s {:5.1f} % of bandwidth, {:6.1f} GFLOP/s {:5.1f} "
      "% of FMA peak\n",
      keys, tokens, bytes / seconds * 1e-9, 100 * bytes / seconds / limits.read_bytes,
      operations / seconds * 1e-9, 100 * operations / seconds / limits.float_operations);
}

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    const bool has_value = i + 1 < argc;
    if (name == "--isa" && has_value) {
      setenv("FEWBITS_ISA", argv[++i], 1);
    } else if (name == "--threads" && has_value) {
      options.threads = std::atoi(argv[++i]);
    } else if (name == "--rows" && has_value) {
      options.rows = std::atoll(argv[++i]);
    } else if (name == "--columns" && has_value) {
      options.columns = std::atoll(argv[++i]);
    } else if (name == "--tokens" && has_value) {
      options.tokens = std::atoll(argv[++i]);
    } else {
      options.formats.push_back(name);
    }
  }
  return options;
}

void run(const Options& options) {
  ThreadPool pool(options.threads);
  const MachineLimits limits = measure_machine_limits(pool);
  fmt::print(
      "{} with {} threads: read {:.1f} GB/s, int8 {:.1f} GOP/s, FMA {:.1f}, tiles {:.1f} GFLOP/s; "
      "{} x {}\n",
      kernels().name, pool.threads(), limits.read_bytes * 1e-9, limits.int8_operations * 1e-9,
      limits.float_operations * 1e-9, limits.tile_operations * 1e-9, options.rows, options.columns);
  std::vector<const Format*> chosen;
  for (const std::string& name : options.formats) {
    if (name != "attention") chosen.push_back(&format_named(name));
  }
  if (options.formats.empty()) chosen.assign(formats().begin(), formats().end());
  for (const Format* format : chosen) {
    measure_decode(*format, options, limits, pool);
    measure_batch(*format, options, limits, pool);
    measure_prefill(*format, options, limits, pool);
  }
  for (int64_t keys : {512, 4096, 16384}) measure_attention(keys, 1, limits, pool);
  measure_attention(512, 128, limits, pool);
}

}  // namespace
}  // namespace fewbits

int main(int argc, char** argv) {
  fewbits::run(fewbits::parse(argc, argv));
  return 0;
}
