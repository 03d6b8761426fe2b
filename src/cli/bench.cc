#include <fmt/format.h>

#include <memory>
#include <string>

#include "base/error.h"
#include "cli/activation_arguments.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/kv_arguments.h"
#include "evaluate/speed.h"
#include "kernels/kernel_table.h"

namespace fewbits::cli {
namespace {

struct BenchArguments {
  std::string model;
  SpeedOptions options;
  KvArguments kv;
  ActivationArguments activations;
  int threads = 0;
  bool json = false;
};

Json to_json(const Speed& speed, int threads) {
  Json rows = Json::array();
  for (const SpeedRow& row : speed.rows) {
    rows.push_back({{"test", row.test},
                    {"format", row.format},
                    {"tokens_per_second", row.tokens_per_second},
                    {"bytes_per_second", row.bytes_per_second},
                    {"share_of_limit", row.share_of_limit}});
  }
  return {{"isa", kernels().name},
          {"threads", threads},
          {"read_bytes_per_second", speed.limits.read_bytes},
          {"int8_ops_per_second", speed.limits.int8_operations},
          {"fma_flops_per_second", speed.limits.float_operations},
          {"tile_flops_per_second", speed.limits.tile_operations},
          {"rows", std::move(rows)}};
}

std::string to_text(const Speed& speed, int threads) {
  const MachineLimits& limits = speed.limits;
  std::string text =
      fmt::format("{}, {} threads: reads {:.1f} GB/s, int8 {:.0f} GOP/s, FMA {:.0f} GFLOP/s",
                  kernels().name, threads, limits.read_bytes * 1e-9, limits.int8_operations * 1e-9,
                  limits.float_operations * 1e-9);
  if (limits.tile_operations > 0)
    text += fmt::format(", tiles {:.0f} GFLOP/s", limits.tile_operations * 1e-9);
  text += "\n\n";
  text += fmt::format("{:<16} {:<8} {:>10} {:>8} {:>14}\n", "test", "format", "tokens/s", "GB/s",
                      "share of limit");
  for (const SpeedRow& row : speed.rows) {
    const std::string tokens =
        row.tokens_per_second > 0 ? fmt::format("{:.1f}", row.tokens_per_second) : "";
    text += fmt::format("{:<16} {:<8} {:>10} {:>8.2f} {:>12.0f} %\n", row.test, row.format, tokens,
                        row.bytes_per_second * 1e-9, 100 * row.share_of_limit);
  }
  return text;
}

void bench(BenchArguments& arguments) {
  arguments.options.kv = arguments.kv.options();
  arguments.options.activations = arguments.activations.options(arguments.kv);
  const Model model = open_model(arguments.model);
  warn_all(model.warnings);
  ThreadPool pool(arguments.threads);
  int64_t done = 0;
  Progress progress("bench");
  const Speed speed = measure_speed(model, pool, arguments.options, [&](const std::string& test) {
    const auto tests = 10 + std::ssize(arguments.options.depths);
    progress.update(done++, tests, test);
  });
  progress.finish();
  if (arguments.json) return print_json(to_json(speed, pool.threads()));
  print(to_text(speed, pool.threads()));
}

}  // namespace

void add_bench(CLI::App& app) {
  const auto arguments = std::make_shared<BenchArguments>();
  CLI::App* verb =
      app.add_subcommand("bench", "Measure speed beside what this machine can do at best");
  SpeedOptions& options = arguments->options;
  verb->add_option("model", arguments->model, "Hugging Face folder or GGUF file")->required();
  verb->add_option("-p,--prompt", options.prompt, "Tokens of the prompt that is read")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  verb->add_option("-n,--tokens", options.tokens, "Tokens decoded in each test")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  verb->add_option("--depth", options.depths, "Lengths of context to decode behind")
      ->check(CLI::Range(1, 1 << 24))
      ->capture_default_str();
  verb->add_option("--sequences", options.sequences, "Decoded at once in the batch test; 1: none")
      ->check(CLI::Range(1, 512))
      ->capture_default_str();
  verb->add_option("--repeats", options.repeats, "Runs of each test; the best counts")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  verb->add_option("--threads", arguments->threads, "0: one for each processor")
      ->check(CLI::Range(0, 1024));
  declare(arguments->activations, *verb);
  declare(arguments->kv, *verb);
  verb->add_flag("--json", arguments->json, "Print the facts as JSON");
  verb->callback([arguments] { bench(*arguments); });
}

}  // namespace fewbits::cli
