#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/thread_pool.h"
#include "evaluate/scorer.h"
#include "evaluate/statistics.h"
#include "evaluate/task.h"

// Which answer a model gives. Each continuation gets the sum of log p over its tokens after the
// context, where a continuation's tokens are those of the whole text beyond as many as the context
// alone has (lm-eval's rule: a tokenizer may join what lies on either side of the border). Then,
// for multiple choice,
//
//   accuracy       the largest sum is the right one
//   accuracy_norm  the largest sum per character of the choice is
//
// and for the last word
//
//   accuracy       greedy decoding gives exactly the word
//   perplexity     exp of the mean of -sum over the items
namespace fewbits {

/// An item as tokens, BOS included where the model adds one.
struct EncodedItem {
  std::vector<std::vector<Token>> sequences;  ///< context and continuation, for each continuation
  int64_t scored_from = 0;  ///< the first token that is scored, in all of them; at least 1
};

using Encode = std::function<std::vector<Token>(std::string_view)>;

/// Throws Error where a context and a continuation together are a single token: nothing is left to
/// expect it from.
std::vector<EncodedItem> encode_items(const Task& task, const Encode& encode);

/// The most tokens that a model must be able to read for these items.
int64_t longest_sequence(std::span<const EncodedItem> items);

struct ItemScore {
  std::vector<double> log_probability;  ///< of each continuation
  bool greedy = false;  ///< every token of the first continuation is the most probable one
};

/// Scores every item. What the continuations share is read once. An item longer than the model can
/// read loses the start of its context; throws Error where even that does not help, or a logit is
/// not finite. `progress` counts items.
std::vector<ItemScore> score_items(Scorer& scorer, std::span<const EncodedItem> items,
                                   ThreadPool& pool, const Progress& progress = {});

/// What the reference adds. Differences are this model minus the reference, paired: below 0 is
/// worse.
struct TaskComparison {
  Estimate reference_accuracy;
  Estimate accuracy_difference;
  Estimate reference_accuracy_norm = {};
  Estimate accuracy_norm_difference = {};
  Estimate reference_perplexity = {};
  Estimate perplexity_ratio = {};
  Estimate same_answers = {};  ///< multiple choice: both choose the same, right or wrong
};

struct TaskResult {
  std::string task;
  TaskKind kind = TaskKind::kChoices;
  int64_t items = 0;
  Estimate accuracy = {};
  Estimate accuracy_norm = {};  ///< multiple choice
  Estimate perplexity = {};     ///< last word
  std::optional<TaskComparison> comparison = {};
};

/// Both models' scores become one result. `reference` is empty where there is none.
TaskResult summarize_task(const Task& task, std::span<const ItemScore> scores,
                          std::span<const ItemScore> reference);

}  // namespace fewbits
