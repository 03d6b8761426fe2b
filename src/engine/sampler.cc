#include "engine/sampler.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"

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
  return draw(kept_by_probability());
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

/// Fills candidates_, likeliest first, with what top_k and min_p keep. min_p compares with the
/// likeliest alone, so it can come before sorting, where it saves the work; top_p needs the sum
/// over everything, kept in total_.
void Sampler::collect_candidates() {
  candidates_.clear();
  for (size_t i = 0; i < logits_.size(); ++i) {
    candidates_.push_back({logits_[i], static_cast<Token>(i)});
  }
  if (options_.top_k > 0 && static_cast<size_t>(options_.top_k) < candidates_.size()) {
    const auto end = candidates_.begin() + options_.top_k;
    std::nth_element(candidates_.begin(), end, candidates_.end(), kLikelier);
    candidates_.erase(end, candidates_.end());
  }
  const float largest = std::ranges::min_element(candidates_, kLikelier)->logit;
  total_ = 0;
  std::ranges::sort(candidates_, {}, &Candidate::token);  // one order for the sum
  for (const Candidate& c : candidates_) total_ += std::exp(double{c.logit} - largest);
  const double threshold = largest + std::log(options_.min_p);
  std::erase_if(candidates_, [&](const Candidate& c) { return double{c.logit} < threshold; });
  std::ranges::sort(candidates_, kLikelier);
}

/// How many candidates top_p keeps, at least one.
size_t Sampler::kept_by_probability() const {
  if (options_.top_p >= 1) return candidates_.size();
  double sum = 0;
  size_t kept = 0;
  while (kept < candidates_.size() && (kept == 0 || sum < options_.top_p * total_)) {
    sum += std::exp(double{candidates_[kept].logit} - candidates_.front().logit);
    ++kept;
  }
  return kept;
}

Token Sampler::draw(size_t kept) {
  const auto weight = [this](const Candidate& c) {
    return std::exp((double{c.logit} - candidates_.front().logit) / options_.temperature);
  };
  double sum = 0;
  for (size_t i = 0; i < kept; ++i) sum += weight(candidates_[i]);
  double left = random_.uniform() * sum;
  for (size_t i = 0; i + 1 < kept; ++i) {
    left -= weight(candidates_[i]);
    if (left < 0) return candidates_[i].token;
  }
  return candidates_[kept - 1].token;
}

}  // namespace fewbits
