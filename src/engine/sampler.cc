#include "engine/sampler.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "kernels/kernel_table.h"

namespace fewbits {
namespace {

void check_range(const char* name, double value, double least, double most) {
  if (value >= least && value <= most) return;  // false for NaN
  throw Error(fmt::format("{} is {}, must be {} to {}", name, value, least, most));
}

/// Likeliest first; equals by id, so that the order is one.
constexpr auto kLikelier = [](const auto& a, const auto& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
};

Token likeliest(std::span<const float> logits) {
  return static_cast<Token>(std::ranges::max_element(logits) - logits.begin());
}

}  // namespace

uint64_t Random::next() {
  state_ += 0x9e3779b97f4a7c15u;
  uint64_t z = state_;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

double Random::uniform() {
  return static_cast<double>(next() >> 11) * 0x1p-53;
}

void check_options(const SamplerOptions& options) {
  check_range("repetition penalty", options.repetition_penalty, 0.01, 100);
  check_range("repetition window", static_cast<double>(options.repetition_window), -1, 1e9);
  check_range("top-k", static_cast<double>(options.top_k), 0, 1e9);
  check_range("top-p", options.top_p, 0, 1);
  check_range("min-p", options.min_p, 0, 1);
  check_range("temperature", options.temperature, 0, 100);
}

Sampler::Sampler(const SamplerOptions& options) : options_(options), random_(options.seed) {
  check_options(options);
}

Token Sampler::sample(std::span<const float> logits, std::span<const Token> history) {
  if (!std::ranges::all_of(logits, [](float x) { return std::isfinite(x); })) {
    throw Error("the model's predictions are not finite: its weights are broken or overflow");
  }
  logits_.assign(logits.begin(), logits.end());
  penalize(history);
  if (options_.temperature == 0) return likeliest(logits_);
  collect_candidates();
  keep_by_probability();
  weigh();
  return draw();
}

/// Each repeated token once, however often it occurs: towards less likely whatever the logit's
/// sign.
void Sampler::penalize(std::span<const Token> history) {
  if (options_.repetition_penalty == 1) return;
  const auto limit = static_cast<size_t>(options_.repetition_window);  // -1: no limit
  history = history.last(std::min(history.size(), limit));
  window_.assign(history.begin(), history.end());
  std::ranges::sort(window_);
  window_.erase(std::unique(window_.begin(), window_.end()), window_.end());
  const auto penalty = static_cast<float>(options_.repetition_penalty);
  for (const Token token : window_) {
    check(token >= 0 && static_cast<size_t>(token) < logits_.size());
    float& logit = logits_[static_cast<size_t>(token)];
    logit = logit > 0 ? logit / penalty : logit * penalty;
  }
}

/// Fills candidates_ with what top_k and min_p keep. min_p compares with the likeliest alone, so it
/// needs no order; top_p needs the sum over what top_k kept, in total_.
void Sampler::collect_candidates() {
  candidates_.clear();
  sorted_ = 0;
  largest_ = *std::ranges::max_element(logits_);
  for (size_t i = 0; i < logits_.size(); ++i) {
    candidates_.push_back({logits_[i], static_cast<Token>(i)});
  }
  if (options_.top_k > 0 && static_cast<size_t>(options_.top_k) < candidates_.size()) {
    const auto end = candidates_.begin() + options_.top_k;
    std::nth_element(candidates_.begin(), end, candidates_.end(), kLikelier);
    candidates_.erase(end, candidates_.end());
    std::ranges::sort(candidates_, {}, &Candidate::token);  // one order for the sum
  }
  total_ = options_.top_p < 1 ? sum_of_exponentials(1) : 0;
  const double threshold = largest_ + std::log(options_.min_p);
  std::erase_if(candidates_, [&](const Candidate& c) { return double{c.logit} < threshold; });
}

/// Sum of exp((logit - largest_) / temperature) over the candidates; scores_ has its terms divided
/// by it.
double Sampler::sum_of_exponentials(double temperature) {
  scores_.clear();
  constexpr double kLeast = -1e4;  // exp of it is 0; a tiny temperature would overflow a float
  for (const Candidate& c : candidates_) {
    const double score = (double{c.logit} - largest_) / temperature;
    scores_.push_back(static_cast<float>(std::max(kLeast, score)));
  }
  kernels().softmax(scores_.data(), std::ssize(scores_));
  return 1 / double{*std::ranges::max_element(scores_)};
}

/// Drops what top_p does not keep; one candidate at least stays.
void Sampler::keep_by_probability() {
  if (options_.top_p >= 1) return;
  double sum = 0;
  size_t kept = 0;
  while (kept < candidates_.size() && (kept == 0 || sum < options_.top_p * total_)) {
    sum += std::exp(double{ranked(kept).logit} - largest_);
    ++kept;
  }
  candidates_.resize(kept);
  sorted_ = std::min(sorted_, kept);
}

void Sampler::weigh() {
  sum_of_exponentials(options_.temperature);
  for (size_t i = 0; i < candidates_.size(); ++i) candidates_[i].probability = scores_[i];
}

Token Sampler::draw() {
  double left = random_.uniform();
  for (size_t i = 0; i + 1 < candidates_.size(); ++i) {
    const Candidate& candidate = ranked(i);
    left -= candidate.probability;
    if (left < 0) return candidate.token;
  }
  return ranked(candidates_.size() - 1).token;
}

/// The candidate of a rank, 0 being the likeliest. Sorts no further than it must: most draws end
/// among the first few of a vocabulary.
const Sampler::Candidate& Sampler::ranked(size_t rank) {
  constexpr size_t kFirst = 64, kGrowth = 8;
  while (sorted_ <= rank) {
    const size_t end = std::min(candidates_.size(), std::max(kFirst, kGrowth * sorted_));
    const auto from = candidates_.begin() + static_cast<ptrdiff_t>(sorted_);
    const auto to = candidates_.begin() + static_cast<ptrdiff_t>(end);
    if (to != candidates_.end()) std::nth_element(from, to, candidates_.end(), kLikelier);
    std::sort(from, to, kLikelier);
    sorted_ = end;
  }
  return candidates_[rank];
}

}  // namespace fewbits
