#include "evaluate/speed.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <random>
#include <span>
#include <string_view>
#include <utility>

#include "base/checked_math.h"
#include "base/interrupt.h"
#include "base/timing.h"
#include "engine/engine.h"

namespace fewbits {
namespace {

// Encoded to measure the encoders: enough rows for every thread, small enough to make in no time.
constexpr int64_t kEncodedRows = 512, kEncodedColumns = 2048, kRowsPerTask = 8;
constexpr std::string_view kEncodedFormats[] = {"Q8_0", "Q4_0", "Q4_K", "Q6_K", "IQ4_XS"};

/// Operations of one token through all layers, and of the output layer, by the arithmetic they are
/// done in.
struct Work {
  double int8_layers = 0, float_layers = 0;
  double int8_output = 0, float_output = 0;
};

Work work_of(const Model& model) {
  Work work;
  const bool tied = model.config.tied_embeddings;
  for (const Weight& weight : model.weights) {
    const TensorView& view = weight.tensor->view;
    const bool output = weight.role == Role::kOutput || (tied && weight.role == Role::kEmbedding);
    if (view.shape.size() < 2 || (weight.layer < 0 && !output)) continue;
    const bool floats = view.format->is_float();
    double& sum = output ? (floats ? work.float_output : work.int8_output)
                         : (floats ? work.float_layers : work.int8_layers);
    sum += 2.0 * static_cast<double>(view.values());
  }
  return work;
}

/// The format that most bytes of the matrices are in.
std::string main_format(const Model& model) {
  std::map<std::string_view, int64_t> bytes;
  for (const Weight& weight : model.weights) {
    bytes[weight.format().name] += weight.stored_bytes();
  }
  const auto most = std::ranges::max_element(
      bytes, [](const auto& a, const auto& b) { return a.second < b.second; });
  return std::string(most->first);
}

class SpeedTests {
 public:
  SpeedTests(const Model& model, ThreadPool& pool, const SpeedOptions& options,
             const std::function<void(const std::string&)>& progress)
      : model_(model),
        config_(model.config),
        pool_(pool),
        options_(options),
        progress_(progress),
        format_(main_format(model)),
        engine_(model, pool, {.activations = options.activations}) {}

  Speed run() {
    begin("machine");
    speed_.limits = measure_machine_limits(pool_);
    prefill();
    decode(0);
    for (const int64_t depth : options_.depths) {
      if (depth + options_.tokens <= config_.context) decode(depth);
    }
    if (options_.sequences > 1) decode_batch(options_.sequences);
    for (const std::string_view name : kEncodedFormats) encode(format_named(name));
    begin("machine");
    speed_.limits = larger(speed_.limits, measure_machine_limits(pool_));
    for (const auto& finish : finish_) finish();
    return std::move(speed_);
  }

 private:
  void begin(const std::string& test) const {
    throw_if_interrupted();
    progress_(test);
  }

  /// `share` is asked for when the limits are known.
  void add(SpeedRow row, std::function<double(const MachineLimits&)> share) {
    const size_t index = speed_.rows.size();
    speed_.rows.push_back(std::move(row));
    finish_.emplace_back([this, index, share = std::move(share)] {
      speed_.rows[index].share_of_limit = share(speed_.limits);
    });
  }

  std::vector<Token> some_tokens(int64_t count) const {
    std::mt19937 random(1);
    std::uniform_int_distribution<int64_t> token(0, config_.vocabulary - 1);
    std::vector<Token> tokens(static_cast<size_t>(count));
    for (Token& each : tokens) each = static_cast<Token>(token(random));
    return tokens;
  }

  void next_token_logits(std::span<const Token> tokens, KvCache& cache) {
    const auto hidden = engine_.forward(tokens, cache, 1);
    logits_.resize(static_cast<size_t>(config_.vocabulary));
    engine_.logits(hidden, 1, logits_.data());
  }

  void prefill() {
    const int64_t count = std::min(options_.prompt, config_.context);
    const std::string test = fmt::format("prefill {}", count);
    begin(test);
    const auto tokens = some_tokens(count);
    KvCache cache(config_, count, options_.kv);
    const double seconds = best_seconds(options_.repeats, 0, [&] {
      throw_if_interrupted();
      cache.truncate(0);
      next_token_logits(tokens, cache);
    });
    const auto n = static_cast<double>(count);
    const Work work = work_of(model_);
    // Each query is multiplied with, and weighs, half of all keys on average.
    const double attention = 4.0 * 0.5 * n * (n + 1) *
                             static_cast<double>(config_.heads * config_.head_dim) *
                             static_cast<double>(config_.layers);
    const double last = work.int8_output + work.float_output;  // one token's, next to nothing
    const double codes = n * work.int8_layers, floats = n * work.float_layers + last;
    add({test, format_, n / seconds, static_cast<double>(engine_.weight_bytes()) / seconds},
        [=](const MachineLimits& limits) {
          return (codes / limits.many_codes() + floats / limits.many_floats() +
                  attention / limits.float_operations) /
                 seconds;
        });
  }

  void decode(int64_t depth) {
    const std::string test = depth == 0 ? "decode" : fmt::format("decode at {}", depth);
    begin(test);
    const auto tokens = some_tokens(options_.tokens);
    KvCache cache(config_, depth + options_.tokens, options_.kv);
    cache.fill(depth);
    const double seconds = best_seconds(options_.repeats, 0, [&] {
      throw_if_interrupted();
      cache.truncate(depth);
      for (const Token token : tokens) next_token_logits({&token, 1}, cache);
    });
    const auto n = static_cast<double>(options_.tokens);
    const double bytes = n * static_cast<double>(engine_.weight_bytes() +
                                                 cache.bytes_read(depth + options_.tokens / 2));
    add({test, format_, n / seconds, bytes / seconds},
        [rate = bytes / seconds](const MachineLimits& limits) { return rate / limits.read_bytes; });
  }

  /// Several sequences at once. The limit is what takes longer: reading the weights once for all
  /// of them, or the products.
  void decode_batch(int64_t sequences) {
    const std::string test = fmt::format("batch {}", sequences);
    begin(test);
    std::vector<KvCache> caches;
    std::vector<KvCache*> each;
    for (int64_t i = 0; i < sequences; ++i) {
      caches.emplace_back(config_, options_.tokens, options_.kv);
    }
    for (KvCache& cache : caches) each.push_back(&cache);
    const std::vector<Token> tokens = some_tokens(sequences);
    logits_.resize(static_cast<size_t>(sequences * config_.vocabulary));
    const double seconds = best_seconds(options_.repeats, 0, [&] {
      throw_if_interrupted();
      for (KvCache& cache : caches) cache.truncate(0);
      for (int64_t i = 0; i < options_.tokens; ++i) {
        engine_.logits(engine_.forward_each(tokens, each), sequences, logits_.data());
      }
    });
    const auto steps = static_cast<double>(options_.tokens);
    const double count = steps * static_cast<double>(sequences);
    const double bytes = steps * static_cast<double>(engine_.weight_bytes()) +
                         count * static_cast<double>(caches[0].bytes_read(options_.tokens / 2));
    const Work work = work_of(model_);
    const double int8 = count * (work.int8_layers + work.int8_output);
    const double floats = count * (work.float_layers + work.float_output);
    add({test, format_, count / seconds, bytes / seconds}, [=](const MachineLimits& limits) {
      const double products = int8 / limits.int8_operations + floats / limits.float_operations;
      return std::max(bytes / limits.read_bytes, products) / seconds;
    });
  }

  void encode(const Format& format) {
    begin("quantize");
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    std::vector<float> values(static_cast<size_t>(kEncodedRows * kEncodedColumns));
    for (float& value : values) value = normal(random);
    const int64_t row_size = row_bytes(format, kEncodedColumns);
    std::vector<std::byte> out(static_cast<size_t>(kEncodedRows * row_size));
    const double seconds = best_seconds(options_.repeats, 0, [&] {
      throw_if_interrupted();
      pool_.run(kEncodedRows / kRowsPerTask, [&](int64_t task, int) {
        const int64_t row = task * kRowsPerTask;
        encode_rows(format, values.data() + row * kEncodedColumns, kRowsPerTask, kEncodedColumns,
                    nullptr, Search::kBest, out.data() + row * row_size);
      });
    });
    const double rate = 2.0 * static_cast<double>(values.size()) / seconds;
    add({"quantize", std::string(format.name), 0, rate},
        [rate](const MachineLimits& limits) { return rate / limits.read_bytes; });
  }

  const Model& model_;
  const ModelConfig& config_;
  ThreadPool& pool_;
  const SpeedOptions& options_;
  const std::function<void(const std::string&)>& progress_;
  std::string format_;
  Engine engine_;
  std::vector<float> logits_;
  Speed speed_;
  std::vector<std::function<void()>> finish_;
};

}  // namespace

Speed measure_speed(const Model& model, ThreadPool& pool, const SpeedOptions& options,
                    const std::function<void(const std::string& test)>& progress) {
  return SpeedTests(model, pool, options, progress).run();
}

}  // namespace fewbits
