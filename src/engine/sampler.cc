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
  logits_.assign(logits.begin(), logits.end());
  penalize(history);
  ranking_.begin(logits_);
  if (options_.temperature == 0) return ranking_.likeliest().token;
  restrict();
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

/// What each option keeps are the likeliest, so a number says which. top_p counts the share of what
/// top_k kept.
void Sampler::restrict() {
  kept_ = logits_.size();
  if (options_.top_k > 0) kept_ = std::min(kept_, static_cast<size_t>(options_.top_k));
  const double wanted = options_.top_p < 1 ? options_.top_p * weight_of_kept(1) : 0;
  if (options_.min_p > 0) {
    const double least = ranking_.likeliest().logit + std::log(options_.min_p);
    const auto enough = std::ranges::count_if(logits_, [&](float x) { return x >= least; });
    kept_ = std::min(kept_, static_cast<size_t>(enough));
  }
  if (options_.top_p >= 1) return;
  double sum = 0;
  size_t fewest = 0;
  while (fewest < kept_ && (fewest == 0 || sum < wanted)) sum += weight(fewest++, 1);
  kept_ = fewest;
}

/// exp of what a token's logit is below the likeliest's.
double Sampler::weight(size_t rank, double temperature) {
  return std::exp((double{ranking_.at(rank).logit} - ranking_.likeliest().logit) / temperature);
}

/// Their sum over all that can be drawn.
double Sampler::weight_of_kept(double temperature) {
  double sum = 0;
  if (kept_ < logits_.size()) {
    for (size_t rank = 0; rank < kept_; ++rank) sum += weight(rank, temperature);
    return sum;
  }
  constexpr float kLeast = -1e4f;  // exp of it is 0; a tiny temperature would overflow
  const float largest = ranking_.likeliest().logit;
  const auto divisor = std::max(static_cast<float>(temperature), 1e-30f);
  scores_.resize(logits_.size());
  for (size_t i = 0; i < scores_.size(); ++i) {
    const float score = (logits_[i] - largest) / divisor;
    scores_[i] = score > kLeast ? score : kLeast;
  }
  kernels().softmax(scores_.data(), std::ssize(scores_));
  return 1 / double{scores_[static_cast<size_t>(ranking_.likeliest().token)]};
}

Token Sampler::draw() {
  double left = random_.uniform() * weight_of_kept(options_.temperature);
  for (size_t rank = 0; rank + 1 < kept_; ++rank) {
    left -= weight(rank, options_.temperature);
    if (left < 0) return ranking_.at(rank).token;
  }
  return ranking_.at(kept_ - 1).token;
}

}  // namespace fewbits
