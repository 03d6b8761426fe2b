#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/thread_pool.h"
#include "evaluate/scorer.h"
#include "evaluate/statistics.h"

// Perplexity of a text, and how far a model's predictions have moved from a reference's on the same
// tokens.
//
// A text is tokenized once and cut into windows that do not overlap; the tail that fills none is
// left out. Every window starts anew, and at each of its scored positions the loss is -log p(next
// token), in nats. Perplexity is exp(mean loss). Two protocols, whose figures must never be mixed:
//
//   llama  windows of 512 tokens; the first becomes BOS where the model adds one; the second half
//   is scored, 255
//          predictions per window, each after at least 256 tokens of context. What llama-perplexity
//          prints.
//   paper  windows of 2048 tokens, as they come; all 2047 predictions are scored. What papers
//   print.
//
// The reference reads the same windows in the same process, so no file of logits (vocabulary x
// tokens) is ever written, and the logits of only a few positions exist at a time. All comparisons
// are paired: the two models meet the same easy and hard places, and only the difference counts.
// Results depend on neither the thread count nor the chunking.
namespace fewbits {

enum class Protocol { kLlama, kPaper };

std::string_view protocol_name(Protocol protocol);
/// "llama" or "paper". Throws Error that lists both.
Protocol protocol_named(std::string_view name);

struct PerplexityOptions {
  Protocol protocol = Protocol::kLlama;
  int64_t context = 0;            ///< tokens of a window; 0: the protocol's own
  int64_t windows = 0;            ///< at most so many, from the start of the text; 0: all
  bool every_position = false;    ///< score the first half of a window too
  std::optional<Token> bos = {};  ///< llama: first token of each window, if the model adds one
  Progress progress = {};         ///< counts windows
};

/// How a text of some length is cut.
struct WindowPlan {
  int64_t context = 0;
  int64_t windows = 0;
  int64_t first_scored = 0;  ///< position of a window whose next token is the first one scored
  int64_t scored_per_window() const { return context - 1 - first_scored; }
  int64_t scored() const { return windows * scored_per_window(); }
};

/// Throws Error where the text fills no window, or the options ask for what no window can be.
WindowPlan plan_windows(int64_t tokens, const PerplexityOptions& options);

/// What the reference adds. Differences are this model minus the reference: above 0 is worse.
struct Comparison {
  Estimate reference_perplexity;
  Estimate perplexity_difference;  ///< paired
  Estimate perplexity_ratio;       ///< exp of the mean difference of losses, paired
  Estimate kl_mean;  ///< Kullback-Leibler divergence from the reference, nats per token
  std::vector<double> kl_windows;  ///< mean of each window
  double kl_median = kUnknown;
  double kl_p90 = kUnknown;
  double kl_p99 = kUnknown;
  double kl_p999 = kUnknown;
  double kl_max = kUnknown;
  Estimate top1_agreement;            ///< how often both rank the same token first
  double probability_rms = kUnknown;  ///< root mean square change of the right token's probability
};

struct PerplexityResult {
  Protocol protocol = Protocol::kLlama;
  WindowPlan plan = {};
  int64_t tokens = 0;  ///< scored
  Estimate perplexity = {};
  std::optional<Comparison> comparison = {};
};

/// Scores `tokens` with `model`, and against `reference` where it is not null. Throws Error where
/// the text is too short, a token or the reference's vocabulary does not fit the model's, or a
/// logit is not finite; Interrupted when asked to stop.
PerplexityResult score_text(Scorer& model, Scorer* reference, std::span<const Token> tokens,
                            const PerplexityOptions& options, ThreadPool& pool);

}  // namespace fewbits
