#include "engine/generate.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "base/error.h"
#include "base/interrupt.h"

namespace fewbits {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double rate(int64_t count, double seconds) {
  return seconds > 0 ? static_cast<double>(count) / seconds : 0;
}

/// Tokens at the front of `prompt` that the cache holds. The last is always left to compute: its
/// logits are wanted.
int64_t reusable(const KvCache& cache, std::span<const Token> prompt) {
  const auto held = cache.tokens();
  const auto end = std::ranges::mismatch(held, prompt.first(prompt.size() - 1)).in1;
  return end - held.begin();
}

void check_prompt(const ModelConfig& config, const KvCache& cache, std::span<const Token> prompt) {
  if (!config.design.causal) {
    throw Error("the model is an encoder, which generates no text; see fewbits embed");
  }
  if (prompt.empty()) throw Error("the prompt is empty, and this model has no token to begin with");
  if (static_cast<int64_t>(prompt.size()) <= cache.capacity()) return;
  throw Error(fmt::format(
      "the prompt has {} tokens, the context only {}; shorten it or ask for a larger context",
      prompt.size(), cache.capacity()));
}

class Generation {
 public:
  Generation(Engine& engine, KvCache& cache, const GenerateOptions& options)
      : engine_(engine),
        cache_(cache),
        options_(options),
        sampler_(options.sampler),
        stream_(options.stop_strings, options.on_text),
        logits_(static_cast<size_t>(engine.config().vocabulary)) {}

  GenerateResult run(std::span<const Token> prompt) {
    history_.assign(prompt.begin(), prompt.end());
    prefill(prompt);
    const auto start = Clock::now();
    result_.stop = decode();
    result_.decode_seconds = seconds_since(start);
    stream_.finish();
    result_.text = stream_.text();
    return std::move(result_);
  }

 private:
  void prefill(std::span<const Token> prompt) {
    const auto start = Clock::now();
    const int64_t reused = reusable(cache_, prompt);
    cache_.truncate(reused);
    forward(prompt.subspan(static_cast<size_t>(reused)));
    result_.prompt_tokens = static_cast<int64_t>(prompt.size());
    result_.prefilled_tokens = result_.prompt_tokens - reused;
    result_.prefill_seconds = seconds_since(start);
  }

  void forward(std::span<const Token> tokens) {
    engine_.logits(engine_.forward(tokens, cache_, 1), 1, logits_.data());
  }

  StopReason decode() {
    while (static_cast<int64_t>(result_.tokens.size()) < options_.max_tokens) {
      if (interrupted()) return StopReason::kInterrupted;
      const Token token = sampler_.sample(logits_, history_);
      if (engine_.model().ends_generation(token)) return StopReason::kEndOfText;
      result_.tokens.push_back(token);
      history_.push_back(token);
      if (!stream_.add(piece(token))) return StopReason::kStopString;
      if (cache_.length() == cache_.capacity()) return StopReason::kContextFull;
      if (static_cast<int64_t>(result_.tokens.size()) == options_.max_tokens) break;
      forward({&token, 1});
      ++result_.decoded_tokens;
    }
    return StopReason::kLength;
  }

  /// Where only control tokens stand before, the text begins here: decode() leaves out the space
  /// that some tokenizers put before a text's first word. Rows of the embedding beyond the
  /// tokenizer's vocabulary have no text.
  std::string piece(Token token) const {
    const Tokenizer& tokenizer = engine_.model().tokenizer;
    if (token >= tokenizer.size()) return "";
    const bool first = std::ranges::all_of(std::span(history_).first(history_.size() - 1),
                                           [&](Token t) { return tokenizer.is_control(t); });
    return first ? tokenizer.decode({&token, 1}) : tokenizer.piece(token);
  }

  Engine& engine_;
  KvCache& cache_;
  const GenerateOptions& options_;
  Sampler sampler_;
  TextStream stream_;
  std::vector<float> logits_;
  std::vector<Token> history_;
  GenerateResult result_;
};

}  // namespace

std::string_view stop_reason_text(StopReason reason) {
  switch (reason) {
    case StopReason::kEndOfText:
      return "end of text";
    case StopReason::kStopString:
      return "stop string";
    case StopReason::kLength:
      return "length limit";
    case StopReason::kContextFull:
      return "context full";
    case StopReason::kInterrupted:
      return "interrupted";
  }
  check(false);
  return {};
}

double GenerateResult::prefill_tokens_per_second() const {
  return rate(prefilled_tokens, prefill_seconds);
}

double GenerateResult::decode_tokens_per_second() const {
  return rate(decoded_tokens, decode_seconds);
}

GenerateResult generate(Engine& engine, KvCache& cache, std::span<const Token> prompt,
                        const GenerateOptions& options) {
  check_options(options.sampler);
  check_prompt(engine.config(), cache, prompt);
  return Generation(engine, cache, options).run(prompt);
}

}  // namespace fewbits
