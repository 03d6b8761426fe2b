#include "evaluate/task_scoring.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "base/error.h"
#include "base/interrupt.h"
#include "evaluate/logit_rows.h"

namespace fewbits {
namespace {

/// Rows of logits held at a time. Continuations are short: few items need a second go.
constexpr int64_t kRowsAtATime = 64;

/// How many tokens all sequences begin with in common.
size_t common_prefix(std::span<const std::vector<Token>> sequences) {
  size_t length = sequences[0].size();
  for (const std::vector<Token>& sequence : sequences) {
    const auto [a, b] =
        std::mismatch(sequence.begin(), sequence.end(), sequences[0].begin(), sequences[0].end());
    length = std::min(length, static_cast<size_t>(a - sequence.begin()));
  }
  return length;
}

EncodedItem encode_item(const TaskItem& item, const Encode& encode, int64_t number) {
  EncodedItem encoded;
  encoded.scored_from = static_cast<int64_t>(encode(item.context).size());
  for (const std::string& continuation : item.continuations) {
    encoded.sequences.push_back(encode(item.context + continuation));
    // Where the tokenizer joined all of the continuation to the context, its last token is still
    // scored.
    const auto length = static_cast<int64_t>(encoded.sequences.back().size());
    encoded.scored_from = std::min(encoded.scored_from, length - 1);
  }
  // An empty context, and no BOS: the first token has nothing to be expected from, so the second is
  // the first scored.
  const bool too_short =
      std::any_of(encoded.sequences.begin(), encoded.sequences.end(),
                  [](const std::vector<Token>& sequence) { return sequence.size() < 2; });
  if (too_short) throw Error(fmt::format("item {}: a single token, and nothing before it", number));
  encoded.scored_from = std::max<int64_t>(encoded.scored_from, 1);
  return encoded;
}

/// Scores the items of one task one after the other.
class ItemScorer {
 public:
  ItemScorer(Scorer& scorer, ThreadPool& pool) : scorer_(scorer), pool_(pool) {}

  ItemScore score(const EncodedItem& item, int64_t number);

 private:
  /// Of `targets`, which follow the rows kept by the last append.
  struct SequenceScore {
    double log_probability = 0;
    bool greedy = true;
  };
  SequenceScore score_targets(std::span<const Token> targets, int64_t number);

  Scorer& scorer_;
  ThreadPool& pool_;
  std::vector<float> logits_;
};

ItemScore ItemScorer::score(const EncodedItem& item, int64_t number) {
  const int64_t too_many = std::max<int64_t>(0, longest_sequence({&item, 1}) - scorer_.capacity());
  if (too_many >= item.scored_from) {
    throw Error(fmt::format(
        "item {}: its longest continuation does not fit the {} tokens that the model can read",
        number, scorer_.capacity()));
  }
  const auto start = static_cast<size_t>(too_many);
  const auto scored_from = static_cast<size_t>(item.scored_from);
  // The last token of the context is read with each continuation: its logits are what the first one
  // is scored by.
  const size_t shared = std::max(start, std::min(common_prefix(item.sequences), scored_from - 1));
  scorer_.truncate(0);
  if (shared > start)
    scorer_.append(std::span(item.sequences[0]).subspan(start, shared - start), 1);

  ItemScore result;
  for (const std::vector<Token>& sequence : item.sequences) {
    const std::span<const Token> tokens(sequence);
    const auto targets = tokens.subspan(scored_from);
    scorer_.truncate(static_cast<int64_t>(shared - start));
    scorer_.append(tokens.subspan(shared, tokens.size() - 1 - shared),
                   static_cast<int64_t>(targets.size()));
    const SequenceScore score = score_targets(targets, number);
    if (result.log_probability.empty()) result.greedy = score.greedy;
    result.log_probability.push_back(score.log_probability);
  }
  return result;
}

ItemScorer::SequenceScore ItemScorer::score_targets(std::span<const Token> targets,
                                                    int64_t number) {
  const auto vocabulary = static_cast<size_t>(scorer_.vocabulary());
  const auto all = static_cast<int64_t>(targets.size());
  std::vector<LogitRow> rows(targets.size());
  std::vector<double> losses(targets.size());
  for (int64_t first = 0; first < all; first += kRowsAtATime) {
    const int64_t count = std::min(kRowsAtATime, all - first);
    logits_.resize(std::max(logits_.size(), static_cast<size_t>(count) * vocabulary));
    scorer_.logits(first, count, logits_.data());
    pool_.run(count, [&](int64_t row, int) {
      const auto place = static_cast<size_t>(first + row);
      const auto logits =
          std::span(logits_).subspan(static_cast<size_t>(row) * vocabulary, vocabulary);
      rows[place] = summarize(logits);
      losses[place] = loss_of(rows[place], logits, targets[place]);
    });
  }
  SequenceScore score;
  for (size_t i = 0; i < targets.size(); ++i) {
    if (!rows[i].finite)
      throw Error(
          fmt::format("item {}: logits that are not finite; the weights are broken", number));
    score.log_probability -= losses[i];
    score.greedy = score.greedy && rows[i].top == targets[i];
  }
  return score;
}

/// Of the choice itself, without the blank before it.
int64_t count_characters(std::string_view continuation) {
  const auto begins_character = [](char byte) { return (byte & 0xc0) != 0x80; };
  return std::count_if(continuation.begin() + 1, continuation.end(), begins_character);
}

/// The continuation with the largest sum, or sum per character; the first of equals.
int64_t choice_of(const ItemScore& score, const TaskItem& item, bool per_character) {
  size_t best = 0;
  double best_value = -std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < score.log_probability.size(); ++i) {
    const int64_t characters = per_character ? count_characters(item.continuations[i]) : 1;
    const double value = score.log_probability[i] / static_cast<double>(characters);
    if (value > best_value) {
      best = i;
      best_value = value;
    }
  }
  return static_cast<int64_t>(best);
}

/// Whether each item was answered rightly.
std::vector<bool> right_answers(const Task& task, std::span<const ItemScore> scores,
                                bool per_character) {
  std::vector<bool> right(scores.size());
  for (size_t i = 0; i < scores.size(); ++i) {
    right[i] = task.kind == TaskKind::kLastWord
                   ? scores[i].greedy
                   : choice_of(scores[i], task.items[i], per_character) == task.items[i].right;
  }
  return right;
}

Estimate share_of(const std::vector<bool>& right) {
  return estimate_share(std::count(right.begin(), right.end(), true),
                        static_cast<int64_t>(right.size()));
}

Estimate difference_of(const std::vector<bool>& ours, const std::vector<bool>& reference) {
  DiscordantItems counts{.items = static_cast<int64_t>(ours.size())};
  for (size_t i = 0; i < ours.size(); ++i) {
    counts.only_first += ours[i] && !reference[i] ? 1 : 0;
    counts.only_second += !ours[i] && reference[i] ? 1 : 0;
  }
  return estimate_paired_difference(counts);
}

/// exp of the mean of the items' losses, less the reference's where there is one.
Estimate perplexity_of(std::span<const ItemScore> scores,
                       std::span<const ItemScore> reference = {}) {
  std::vector<double> losses(scores.size());
  for (size_t i = 0; i < scores.size(); ++i) {
    losses[i] = -scores[i].log_probability[0];
    if (!reference.empty()) losses[i] += reference[i].log_probability[0];
  }
  return exponential(estimate_mean(losses));
}

Estimate same_answers(const Task& task, std::span<const ItemScore> scores,
                      std::span<const ItemScore> reference) {
  int64_t same = 0;
  for (size_t i = 0; i < scores.size(); ++i) {
    const TaskItem& item = task.items[i];
    same += choice_of(scores[i], item, false) == choice_of(reference[i], item, false) ? 1 : 0;
  }
  return estimate_share(same, static_cast<int64_t>(scores.size()));
}

TaskComparison compare_items(const Task& task, std::span<const ItemScore> scores,
                             std::span<const ItemScore> reference) {
  const auto right = right_answers(task, reference, false);
  TaskComparison comparison{
      .reference_accuracy = share_of(right),
      .accuracy_difference = difference_of(right_answers(task, scores, false), right)};
  if (task.kind == TaskKind::kLastWord) {
    comparison.reference_perplexity = perplexity_of(reference);
    comparison.perplexity_ratio = perplexity_of(scores, reference);
    return comparison;
  }
  const auto right_norm = right_answers(task, reference, true);
  comparison.reference_accuracy_norm = share_of(right_norm);
  comparison.accuracy_norm_difference =
      difference_of(right_answers(task, scores, true), right_norm);
  comparison.same_answers = same_answers(task, scores, reference);
  return comparison;
}

}  // namespace

std::vector<EncodedItem> encode_items(const Task& task, const Encode& encode) {
  std::vector<EncodedItem> items;
  items.reserve(task.items.size());
  for (const TaskItem& item : task.items) {
    items.push_back(encode_item(item, encode, static_cast<int64_t>(items.size())));
  }
  return items;
}

int64_t longest_sequence(std::span<const EncodedItem> items) {
  size_t longest = 1;
  for (const EncodedItem& item : items) {
    for (const std::vector<Token>& sequence : item.sequences)
      longest = std::max(longest, sequence.size());
  }
  return static_cast<int64_t>(longest) - 1;  // the last token is never read
}

std::vector<ItemScore> score_items(Scorer& scorer, std::span<const EncodedItem> items,
                                   ThreadPool& pool, const Progress& progress) {
  std::vector<ItemScore> scores;
  scores.reserve(items.size());
  ItemScorer item_scorer(scorer, pool);
  for (const EncodedItem& item : items) {
    throw_if_interrupted();
    scores.push_back(item_scorer.score(item, static_cast<int64_t>(scores.size())));
    if (progress) progress(static_cast<int64_t>(scores.size()), static_cast<int64_t>(items.size()));
  }
  return scores;
}

TaskResult summarize_task(const Task& task, std::span<const ItemScore> scores,
                          std::span<const ItemScore> reference) {
  check(!scores.empty() && scores.size() == task.items.size());
  check(reference.empty() || reference.size() == scores.size());
  TaskResult result{
      .task = task.name, .kind = task.kind, .items = static_cast<int64_t>(scores.size())};
  result.accuracy = share_of(right_answers(task, scores, false));
  if (task.kind == TaskKind::kLastWord) {
    result.perplexity = perplexity_of(scores);
  } else {
    result.accuracy_norm = share_of(right_answers(task, scores, true));
  }
  if (!reference.empty()) result.comparison = compare_items(task, scores, reference);
  return result;
}

}  // namespace fewbits
