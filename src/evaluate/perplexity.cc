#include "evaluate/perplexity.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.h"
#include "base/interrupt.h"
#include "evaluate/logit_rows.h"

namespace fewbits {
namespace {

constexpr int64_t kLlamaContext = 512;
constexpr int64_t kPaperContext = 2048;
constexpr std::array<std::string_view, 2> kProtocolNames = {"llama", "paper"};

// Floats of one model's logits at a time, 32 MB. Fewer positions than about 64 cost speed, because
// every product with the output matrix decodes it anew.
constexpr int64_t kLogitsAtATime = 8 << 20;

/// What is kept of one scored position.
struct TokenScore {
  double loss = 0;
  double reference_loss = 0;
  double divergence = 0;
  bool same_top = false;
};

/// Everything that stays the same from window to window.
class WindowScorer {
 public:
  WindowScorer(Scorer& model, Scorer* reference, const WindowPlan& plan, ThreadPool& pool);

  /// Scores one window, out: scored_per_window().
  void score(std::span<const Token> window, int64_t number, std::span<TokenScore> out);

 private:
  void score_rows(std::span<const Token> targets, int64_t first, std::span<TokenScore> out);
  TokenScore score_row(int64_t row, Token target) const;

  Scorer& model_;
  Scorer* reference_;
  const WindowPlan& plan_;
  ThreadPool& pool_;
  int64_t rows_at_a_time_;
  std::vector<float> logits_;
  std::vector<float> reference_logits_;
};

WindowScorer::WindowScorer(Scorer& model, Scorer* reference, const WindowPlan& plan,
                           ThreadPool& pool)
    : model_(model), reference_(reference), plan_(plan), pool_(pool) {
  rows_at_a_time_ =
      std::clamp<int64_t>(kLogitsAtATime / model.vocabulary(), 16, plan.scored_per_window());
  logits_.resize(static_cast<size_t>(rows_at_a_time_ * model.vocabulary()));
  if (reference != nullptr) reference_logits_.resize(logits_.size());
}

void WindowScorer::score(std::span<const Token> window, int64_t number, std::span<TokenScore> out) {
  // The last token is only ever predicted.
  const auto read = window.first(window.size() - 1);
  for (Scorer* scorer : {&model_, reference_}) {
    if (scorer == nullptr) continue;
    scorer->truncate(0);
    scorer->append(read, plan_.scored_per_window());
  }
  const auto targets = window.subspan(static_cast<size_t>(plan_.first_scored) + 1);
  for (int64_t row = 0; row < plan_.scored_per_window(); row += rows_at_a_time_) {
    throw_if_interrupted();
    score_rows(targets, row, out);
  }
  for (size_t i = 0; i < out.size(); ++i) {
    if (std::isfinite(out[i].loss) && std::isfinite(out[i].reference_loss)) continue;
    throw Error(fmt::format(
        "window {}, position {}: the {} gives logits that are not finite; its weights are broken",
        number, plan_.first_scored + static_cast<int64_t>(i),
        std::isfinite(out[i].loss) ? "reference" : "model"));
  }
}

void WindowScorer::score_rows(std::span<const Token> targets, int64_t first,
                              std::span<TokenScore> out) {
  const int64_t count = std::min(rows_at_a_time_, plan_.scored_per_window() - first);
  model_.logits(first, count, logits_.data());
  if (reference_ != nullptr) reference_->logits(first, count, reference_logits_.data());
  pool_.run(count, [&](int64_t row, int) {
    const auto position = static_cast<size_t>(first + row);
    out[position] = score_row(row, targets[position]);
  });
}

TokenScore WindowScorer::score_row(int64_t row, Token target) const {
  const auto vocabulary = static_cast<size_t>(model_.vocabulary());
  const auto row_of = [&](const std::vector<float>& logits) {
    return std::span(logits).subspan(static_cast<size_t>(row) * vocabulary, vocabulary);
  };
  const auto loss = [&](const LogitRow& summary, std::span<const float> logits) {
    return summary.finite ? loss_of(summary, logits, target) : kUnknown;
  };
  const auto logits = row_of(logits_);
  if (reference_ == nullptr) return {.loss = loss(summarize(logits), logits)};

  const auto reference = row_of(reference_logits_);
  const LogitPair pair = compare(reference, logits);
  return {.loss = loss(pair.model, logits),
          .reference_loss = loss(pair.reference, reference),
          .divergence = pair.divergence,
          .same_top = pair.model.top == pair.reference.top};
}

/// The mean of `value(score)` over each window.
template <class Value>
std::vector<double> window_means(std::span<const TokenScore> scores, const WindowPlan& plan,
                                 Value value) {
  std::vector<double> means;
  const auto per_window = static_cast<size_t>(plan.scored_per_window());
  for (size_t start = 0; start < scores.size(); start += per_window) {
    double sum = 0;
    for (const TokenScore& score : scores.subspan(start, per_window)) sum += value(score);
    means.push_back(sum / static_cast<double>(per_window));
  }
  return means;
}

/// perplexity(model) - perplexity(reference). The interval is of the difference linearised around
/// the two means (the delta method): each window contributes perplexity times its loss, model less
/// reference.
Estimate perplexity_difference(std::span<const TokenScore> scores, const WindowPlan& plan,
                               double perplexity, double reference_perplexity) {
  const Estimate linear = estimate_mean(window_means(scores, plan, [&](const TokenScore& score) {
    return perplexity * score.loss - reference_perplexity * score.reference_loss;
  }));
  const double difference = perplexity - reference_perplexity;
  return {difference, difference + (linear.low - linear.value),
          difference + (linear.high - linear.value)};
}

void fill_divergence(std::span<const TokenScore> scores, const WindowPlan& plan,
                     Comparison& comparison) {
  const auto divergence = [](const TokenScore& score) { return score.divergence; };
  comparison.kl_windows = window_means(scores, plan, divergence);
  comparison.kl_mean = estimate_mean(comparison.kl_windows);
  std::vector<double> sorted;
  sorted.reserve(scores.size());
  for (const TokenScore& score : scores) sorted.push_back(score.divergence);
  std::sort(sorted.begin(), sorted.end());
  comparison.kl_median = quantile(sorted, 0.5);
  comparison.kl_p90 = quantile(sorted, 0.9);
  comparison.kl_p99 = quantile(sorted, 0.99);
  comparison.kl_p999 = quantile(sorted, 0.999);
  comparison.kl_max = sorted.back();
}

double probability_rms(std::span<const TokenScore> scores) {
  double sum = 0;
  for (const TokenScore& score : scores) {
    const double change = std::exp(-score.loss) - std::exp(-score.reference_loss);
    sum += change * change;
  }
  return std::sqrt(sum / static_cast<double>(scores.size()));
}

Comparison compare_scores(std::span<const TokenScore> scores, const WindowPlan& plan,
                          double perplexity) {
  const auto mean = [&](auto value) { return estimate_mean(window_means(scores, plan, value)); };
  Comparison comparison;
  comparison.reference_perplexity =
      exponential(mean([](const TokenScore& score) { return score.reference_loss; }));
  comparison.perplexity_difference =
      perplexity_difference(scores, plan, perplexity, comparison.reference_perplexity.value);
  comparison.perplexity_ratio =
      exponential(mean([](const TokenScore& score) { return score.loss - score.reference_loss; }));
  comparison.top1_agreement = estimate_clustered_share(
      window_means(scores, plan,
                   [](const TokenScore& score) { return score.same_top ? 1.0 : 0.0; }),
      plan.scored());
  comparison.probability_rms = probability_rms(scores);
  fill_divergence(scores, plan, comparison);
  return comparison;
}

/// Refuses before the work what would fail in it.
void check_input(const Scorer& model, const Scorer* reference, std::span<const Token> tokens,
                 const WindowPlan& plan) {
  const int64_t vocabulary = model.vocabulary();
  if (reference != nullptr && reference->vocabulary() != vocabulary) {
    throw Error(
        fmt::format("the model knows {} tokens, the reference {}: only models of one vocabulary "
                    "can be compared",
                    vocabulary, reference->vocabulary()));
  }
  const int64_t capacity =
      reference == nullptr ? model.capacity() : std::min(model.capacity(), reference->capacity());
  if (plan.context > capacity) {
    throw Error(
        fmt::format("windows of {} tokens are longer than the {} that the model can read; give a "
                    "smaller context",
                    plan.context, capacity));
  }
  for (const Token token : tokens) {
    if (token >= 0 && token < vocabulary) continue;
    throw Error(
        fmt::format("the text has token {}, the model knows only {}: its tokenizer is not its own",
                    token, vocabulary));
  }
}

}  // namespace

std::string_view protocol_name(Protocol protocol) {
  return kProtocolNames[static_cast<size_t>(protocol)];
}

Protocol protocol_named(std::string_view name) {
  for (const Protocol protocol : {Protocol::kLlama, Protocol::kPaper}) {
    if (protocol_name(protocol) == name) return protocol;
  }
  throw Error(fmt::format("protocol '{}' is unknown; known: llama, paper", name));
}

WindowPlan plan_windows(int64_t tokens, const PerplexityOptions& options) {
  const bool llama = options.protocol == Protocol::kLlama;
  WindowPlan plan;
  plan.context = options.context != 0 ? options.context : llama ? kLlamaContext : kPaperContext;
  if (plan.context < 4)
    throw Error(fmt::format("a window of {} tokens is too short; the least is 4", plan.context));
  if (options.windows < 0)
    throw Error(fmt::format("{} windows cannot be scored; 0 stands for all", options.windows));
  plan.first_scored = llama && !options.every_position ? plan.context / 2 : 0;
  plan.windows = tokens / plan.context;
  if (plan.windows == 0) {
    throw Error(
        fmt::format("the text has {} tokens, but one window of the {} protocol needs {}; give a "
                    "longer text or a "
                    "smaller context",
                    tokens, protocol_name(options.protocol), plan.context));
  }
  if (options.windows > 0) plan.windows = std::min(plan.windows, options.windows);
  return plan;
}

PerplexityResult score_text(Scorer& model, Scorer* reference, std::span<const Token> tokens,
                            const PerplexityOptions& options, ThreadPool& pool) {
  PerplexityResult result{.protocol = options.protocol,
                          .plan = plan_windows(static_cast<int64_t>(tokens.size()), options)};
  const WindowPlan& plan = result.plan;
  check_input(model, reference, tokens, plan);

  std::vector<TokenScore> scores(static_cast<size_t>(plan.scored()));
  WindowScorer scorer(model, reference, plan, pool);
  const auto context = static_cast<size_t>(plan.context);
  const auto per_window = static_cast<size_t>(plan.scored_per_window());
  std::vector<Token> window(context);
  for (int64_t number = 0; number < plan.windows; ++number) {
    throw_if_interrupted();
    const auto part = tokens.subspan(static_cast<size_t>(number) * context, context);
    std::copy(part.begin(), part.end(), window.begin());
    if (options.protocol == Protocol::kLlama && options.bos) window[0] = *options.bos;
    scorer.score(window, number,
                 std::span(scores).subspan(static_cast<size_t>(number) * per_window, per_window));
    if (options.progress) options.progress(number + 1, plan.windows);
  }

  result.tokens = plan.scored();
  result.perplexity = exponential(estimate_mean(
      window_means(scores, plan, [](const TokenScore& score) { return score.loss; })));
  if (reference != nullptr)
    result.comparison = compare_scores(scores, plan, result.perplexity.value);
  return result;
}

}  // namespace fewbits
