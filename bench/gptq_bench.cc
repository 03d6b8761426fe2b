// Calibrated rounding of one square matrix, step by step, each as a share of the machine's peak of
// float multiply-adds:
//
//   gptq_bench [--columns 4096] [--tokens 4096] [--threads 2] [FORMAT ...]
//
// Counted are the operations that the mathematics asks for: tokens * columns^2 to gather H (it is
// symmetric), 2/3 columns^3 to factor and invert (in double, where the peak is half), rows *
// columns^2 for GPTQ and twice that for the error that it leaves. Descent moves as many codes as it
// finds worth it; only its time is given.
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/checked_math.h"
#include "base/normal_values.h"
#include "base/timing.h"
#include "calibrate/gram.h"
#include "kernels/kernel_table.h"
#include "kernels/machine_limits.h"
#include "methods/gptq.h"

namespace fewbits {
namespace {

struct Site {
  int64_t columns = 4096, tokens = 4096;
  int threads = 2;
};

void print(const std::string& step, double seconds, double operations, const MachineLimits& peak) {
  fmt::print("{:28} {:7.2f} s  {:6.1f} GFLOP/s  {:3.0f} %\n", step, seconds,
             1e-9 * operations / seconds, 100 * operations / seconds / peak.float_operations);
}

double round_rows(const GptqProblem& problem, const Site& site, const std::vector<float>& weights,
                  ThreadPool& pool) {
  const int64_t at_once = rows_rounded_at_once(site.columns, site.columns);
  const int64_t stride = row_bytes(problem.format, site.columns);
  std::vector<std::byte> out(static_cast<size_t>(site.columns * stride));
  const double start = seconds_now();
  pool.run(divide_up(site.columns, at_once), [&](int64_t task, int) {
    const int64_t row = task * at_once, rows = std::min(at_once, site.columns - row);
    gptq(problem, weights.data() + row * site.columns, rows, out.data() + row * stride);
  });
  return seconds_now() - start;
}

void measure(const Site& site, const std::vector<std::string>& formats) {
  ThreadPool pool(site.threads);
  const MachineLimits peak = measure_machine_limits(pool);
  const auto n = static_cast<double>(site.columns);
  fmt::print("{}, {} threads: FMA peak {:.0f} GFLOP/s; {} x {}, {} tokens\n", kernels().name,
             site.threads, 1e-9 * peak.float_operations, site.columns, site.columns, site.tokens);
  const auto inputs = normal_values(site.tokens * site.columns, 1);
  const auto weights = normal_values(site.columns * site.columns, 2);

  GramAccumulator gram(site.columns);
  double start = seconds_now();
  gram.add(inputs.data(), site.tokens, pool);
  print("gather H", seconds_now() - start, static_cast<double>(site.tokens) * n * n, peak);

  start = seconds_now();
  const Hessian hessian = factor_hessian(gram.take_mean(), site.columns, pool);
  print("factor and invert H", seconds_now() - start, 2 * n * n * n / 3, peak);

  for (const std::string& name : formats) {
    const Format& format = format_named(name);
    const GptqProblem plain{format, hessian, {.descent_passes = 0}}, polished{format, hessian};
    const double alone = round_rows(plain, site, weights, pool);
    print(name + ", GPTQ and its error", alone, 3 * n * n * n, peak);
    const double both = round_rows(polished, site, weights, pool);
    fmt::print("{:28} {:7.2f} s\n", name + ", descent", both - alone);
  }
}

}  // namespace
}  // namespace fewbits

int main(int argc, char** argv) {
  fewbits::Site site;
  std::vector<std::string> formats;
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    const bool has_value = i + 1 < argc;
    if (name == "--columns" && has_value) {
      site.columns = std::atoll(argv[++i]);
    } else if (name == "--tokens" && has_value) {
      site.tokens = std::atoll(argv[++i]);
    } else if (name == "--threads" && has_value) {
      site.threads = std::atoi(argv[++i]);
    } else {
      formats.push_back(name);
    }
  }
  if (formats.empty()) formats = {"Q4_0", "Q4_K", "int4_g128"};
  fewbits::measure(site, formats);
}
