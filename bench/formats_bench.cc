#include <benchmark/benchmark.h>

#include <random>
#include <string>
#include <vector>

#include "formats/format.h"

// Encoding and decoding speed of every format on one core, in bytes of F16 a second (2 for each
// value).
namespace fewbits {
namespace {

constexpr int64_t kColumns = 4096;
constexpr int64_t kRows = 16;

const std::vector<float>& weights() {
  static const std::vector<float> values = [] {
    std::mt19937 random(1);
    std::normal_distribution<float> normal(0, 0.02f);
    std::vector<float> made(static_cast<size_t>(kRows * kColumns));
    for (float& value : made) value = normal(random);
    return made;
  }();
  return values;
}

const std::vector<float>& importance() {
  static const std::vector<float> ones(static_cast<size_t>(kColumns), 1.0f);
  return ones;
}

struct Encoding {
  const Format* format;
  Search search;
  bool weighted;
};

void encode(benchmark::State& state, const Encoding& how) {
  std::vector<std::byte> bytes(static_cast<size_t>(kRows * row_bytes(*how.format, kColumns)));
  const float* columns = how.weighted ? importance().data() : nullptr;
  for (auto _ : state) {
    encode_rows(*how.format, weights().data(), kRows, kColumns, columns, how.search, bytes.data());
    benchmark::DoNotOptimize(bytes.data());
  }
  state.SetBytesProcessed(state.iterations() * kRows * kColumns * 2);
}

void decode_all(benchmark::State& state, const Format& format) {
  std::vector<std::byte> bytes(static_cast<size_t>(kRows * row_bytes(format, kColumns)));
  encode_rows(format, weights().data(), kRows, kColumns, nullptr, Search::kReference, bytes.data());
  std::vector<float> values(weights().size());
  for (auto _ : state) {
    decode_rows(format, bytes.data(), kRows, kColumns, values.data());
    benchmark::DoNotOptimize(values.data());
  }
  state.SetBytesProcessed(state.iterations() * kRows * kColumns * 2);
}

void register_all() {
  for (const Format* format : formats()) {
    if (!format->can_encode()) continue;
    const std::string name(format->name);
    benchmark::RegisterBenchmark(("decode/" + name).c_str(), decode_all, *format);
    for (const bool weighted : {false, true}) {
      const std::string suffix = name + (weighted ? "/weighted" : "");
      benchmark::RegisterBenchmark(("reference/" + suffix).c_str(), encode,
                                   Encoding{format, Search::kReference, weighted});
      benchmark::RegisterBenchmark(("best/" + suffix).c_str(), encode,
                                   Encoding{format, Search::kBest, weighted});
    }
  }
}

}  // namespace
}  // namespace fewbits

int main(int count, char** arguments) {
  benchmark::Initialize(&count, arguments);
  if (benchmark::ReportUnrecognizedArguments(count, arguments)) return 1;
  fewbits::register_all();
  benchmark::RunSpecifiedBenchmarks();
}
