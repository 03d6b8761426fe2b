#include "evaluate/evaluate.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "evaluate/engine_scorer.h"

namespace fewbits {
namespace {

/// Both tokenizers must agree on this text, else position i of one model is not position i of the
/// other.
void check_same_tokens(const Evaluation& evaluation, std::span<const Token> tokens,
                       std::string_view text) {
  const std::vector<Token> reference = text_tokens(evaluation.reference->tokenizer, text);
  const auto [ours, theirs] =
      std::mismatch(tokens.begin(), tokens.end(), reference.begin(), reference.end());
  if (ours == tokens.end() && theirs == reference.end()) return;
  throw Error(fmt::format(
      "{} and {} read the text as different tokens (from token {} on): only models of one "
      "tokenizer can "
      "be compared",
      evaluation.model->path.string(), evaluation.reference->path.string(), ours - tokens.begin()));
}

void check_text(std::string_view text) {
  const size_t zero = text.find('\0');
  if (zero == std::string_view::npos) return;
  throw Error(
      fmt::format("the text is binary (a zero byte at offset {}); give a plain text file", zero));
}

std::vector<ItemScore> ask(const Model& model, const Task& task, const Evaluation& evaluation,
                           const KvOptions& kv, const Progress& progress) {
  const std::vector<EncodedItem> items =
      encode_items(task, [&](std::string_view text) { return text_tokens(model.tokenizer, text); });
  const int64_t capacity = std::min(longest_sequence(items), model.config.context);
  EngineScorer scorer(model, *evaluation.pool, capacity, evaluation.engine_of(model), kv);
  return score_items(scorer, items, *evaluation.pool, progress);
}

}  // namespace

std::vector<Token> text_tokens(const Tokenizer& tokenizer, std::string_view text) {
  std::vector<Token> tokens = tokenizer.encode(text);
  if (tokenizer.adds_bos() && tokenizer.bos()) tokens.insert(tokens.begin(), *tokenizer.bos());
  return tokens;
}

PerplexityResult evaluate_text(const Evaluation& evaluation, std::string_view text,
                               PerplexityOptions options) {
  check(evaluation.model != nullptr && evaluation.pool != nullptr);
  check_text(text);
  const Model& model = *evaluation.model;
  const std::vector<Token> tokens = text_tokens(model.tokenizer, text);
  const WindowPlan plan =
      plan_windows(static_cast<int64_t>(tokens.size()), options);  // refuse before loading
  if (evaluation.reference != nullptr) check_same_tokens(evaluation, tokens, text);
  options.bos = model.tokenizer.adds_bos() ? model.tokenizer.bos() : std::nullopt;
  if (evaluation.progress) options.progress = evaluation.progress;

  EngineScorer scorer(model, *evaluation.pool, plan.context, evaluation.engine_of(model),
                      evaluation.kv);
  std::optional<EngineScorer> reference;
  if (evaluation.reference != nullptr) {
    reference.emplace(*evaluation.reference, *evaluation.pool, plan.context,
                      evaluation.engine_of(*evaluation.reference));
  }
  return score_text(scorer, reference ? &*reference : nullptr, tokens, options, *evaluation.pool);
}

TaskResult evaluate_task(const Evaluation& evaluation, const Task& task) {
  check(evaluation.model != nullptr && evaluation.pool != nullptr);
  const int64_t models = evaluation.reference == nullptr ? 1 : 2;
  const auto progress_from = [&](int64_t offset) -> Progress {
    if (!evaluation.progress) return {};
    return [&evaluation, models, offset](int64_t done, int64_t total) {
      evaluation.progress(offset * total + done, models * total);
    };
  };
  const std::vector<ItemScore> scores =
      ask(*evaluation.model, task, evaluation, evaluation.kv, progress_from(0));
  std::vector<ItemScore> reference;
  if (models == 2)
    reference = ask(*evaluation.reference, task, evaluation, KvOptions{}, progress_from(1));
  return summarize_task(task, scores, reference);
}

}  // namespace fewbits
