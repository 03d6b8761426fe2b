#include "evaluate/task_scoring.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "base/error.h"
#include "evaluate/fake_scorer_test.h"

namespace fewbits {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

constexpr int64_t kVocabulary = 128;

/// One token per byte.
std::vector<Token> bytes_of(std::string_view text) {
  return {text.begin(), text.end()};
}

/// Likes 'a': twice as probable as each other token. ln p = ln 2 - ln 129 and -ln 129.
void like_a(std::span<const Token>, std::span<float> logits) {
  logits['a'] = std::log(2.0f);
}

/// Expects the letter after the last one, nearly surely.
void know_the_alphabet(std::span<const Token> read, std::span<float> logits) {
  logits[static_cast<size_t>(read.back() + 1) % logits.size()] = 20;
}

class TaskScoring : public ::testing::Test {
 protected:
  ThreadPool pool{2};

  std::vector<ItemScore> score(FakeScorer& scorer, const Task& task) {
    return score_items(scorer, encode_items(task, bytes_of), pool);
  }
};

TEST_F(TaskScoring, SumsLogProbabilities) {
  const Task task{"t", TaskKind::kChoices, {{"xy", {" a", " bbb"}, 0}}};
  FakeScorer scorer(kVocabulary, like_a);
  const std::vector<ItemScore> scores = score(scorer, task);
  ASSERT_EQ(scores[0].log_probability.size(), 2u);
  EXPECT_NEAR(scores[0].log_probability[0], std::log(2.0) - 2 * std::log(129.0), 1e-6);
  EXPECT_NEAR(scores[0].log_probability[1], -4 * std::log(129.0), 1e-6);
}

TEST_F(TaskScoring, SharedContextIsReadOnce) {
  const std::string context(100, 'x');
  const Task task{"t", TaskKind::kChoices, {{context, {" one", " two", " three"}, 0}}};
  FakeScorer scorer(kVocabulary, like_a);
  score(scorer, task);
  // 99 once; then the context's last token, the blank, and all but the last letter, three times.
  EXPECT_EQ(scorer.tokens_read, 99 + (1 + 3) + (1 + 3) + (1 + 5));
  EXPECT_EQ(scorer.sequences[2], bytes_of(context + " tw"));
}

TEST_F(TaskScoring, TokensThatDifferInsideTheContextAreNotShared) {
  // A tokenizer that joins the context's last letter with what follows, differently for each
  // choice.
  const Encode joining = [](std::string_view text) {
    std::vector<Token> tokens = bytes_of(text);
    if (text.ends_with(" b")) tokens[2] = 'Z';
    return tokens;
  };
  const Task task{"t", TaskKind::kChoices, {{"wxyz", {" a", " b"}, 0}}};
  FakeScorer scorer(kVocabulary, like_a);
  score_items(scorer, encode_items(task, joining), pool);
  EXPECT_THAT(scorer.sequences, ElementsAre(bytes_of("wx"), bytes_of("wxyz "), bytes_of("wxZz ")));
}

TEST_F(TaskScoring, AccuracyAndItsNorm) {
  // Sums prefer the short choice, sums per character the one of a's.
  const Task task{
      "t", TaskKind::kChoices, {{"x", {" aaaaaaaa", " b"}, 0}, {"x", {" aaaaaaaa", " b"}, 1}}};
  FakeScorer scorer(kVocabulary, like_a);
  const TaskResult result = summarize_task(task, score(scorer, task), {});
  EXPECT_EQ(result.items, 2);
  EXPECT_EQ(result.accuracy.value, 0.5);
  EXPECT_EQ(result.accuracy_norm.value, 0.5);
  const Task first{"t", TaskKind::kChoices, {task.items[0]}};
  const TaskResult one = summarize_task(first, score(scorer, first), {});
  EXPECT_EQ(one.accuracy.value, 0);
  EXPECT_EQ(one.accuracy_norm.value, 1);
  EXPECT_TRUE(std::isnan(one.perplexity.value));
}

TEST_F(TaskScoring, NormCountsCharactersNotBytes) {
  const Task task{"t", TaskKind::kChoices, {{"x", {" \xc3\xa4\xc3\xb6", " abcd"}, 0}}};
  const std::vector<ItemScore> scores{{.log_probability = {-3, -4}, .greedy = false}};
  EXPECT_EQ(summarize_task(task, scores, {}).accuracy_norm.value, 0);  // -1.5 against -1
}

TEST_F(TaskScoring, EqualSumsGoToTheFirst) {
  const Task task{"t", TaskKind::kChoices, {{"x", {" b", " c"}, 0}}};
  FakeScorer scorer(kVocabulary, like_a);
  EXPECT_EQ(summarize_task(task, score(scorer, task), {}).accuracy.value, 1);
}

TEST_F(TaskScoring, LastWordMustBeMatchedWhole) {
  const Task task{
      "t", TaskKind::kLastWord, {{"abc", {"def"}, 0}, {"abc", {"deg"}, 0}, {"abc", {"d"}, 0}}};
  FakeScorer scorer(kVocabulary, know_the_alphabet);
  const std::vector<ItemScore> scores = score(scorer, task);
  EXPECT_TRUE(scores[0].greedy);
  EXPECT_FALSE(scores[1].greedy);
  EXPECT_NEAR(scores[1].log_probability[0], -20, 1e-5);
  const TaskResult result = summarize_task(task, scores, {});
  EXPECT_NEAR(result.accuracy.value, 2.0 / 3, 1e-12);
  EXPECT_NEAR(result.perplexity.value, std::exp(20.0 / 3), 1e-2);
  EXPECT_TRUE(std::isnan(result.accuracy_norm.value));
}

TEST_F(TaskScoring, LongItemsLoseTheStartOfTheirContext) {
  const Task task{"t", TaskKind::kChoices, {{"0123456789", {" a", " bcd"}, 0}}};
  FakeScorer scorer(kVocabulary, like_a, 8);
  score(scorer, task);
  EXPECT_THAT(scorer.sequences,
              ElementsAre(bytes_of("5678"), bytes_of("56789 "), bytes_of("56789 bc")));
}

TEST_F(TaskScoring, RefusesWhatCannotBeScored) {
  const Task task{"t", TaskKind::kChoices, {{"xy", {" a", " a very long choice"}, 0}}};
  FakeScorer small(kVocabulary, like_a, 8);
  EXPECT_THAT([&] { score(small, task); },
              ThrowsMessage<Error>(HasSubstr("item 0: its longest continuation")));
  const Task lonely{"t", TaskKind::kLastWord, {{"", {"a"}, 0}}};
  EXPECT_THAT([&] { encode_items(lonely, bytes_of); },
              ThrowsMessage<Error>(HasSubstr("item 0: a single token")));
  FakeScorer broken(kVocabulary, [](auto, std::span<float> logits) { logits[5] = NAN; });
  EXPECT_THAT([&] { score(broken, task); }, ThrowsMessage<Error>(HasSubstr("not finite")));
}

TEST_F(TaskScoring, EmptyContextScoresFromTheSecondToken) {
  const Task task{"t", TaskKind::kLastWord, {{"", {" ab"}, 0}}};
  EXPECT_EQ(encode_items(task, bytes_of)[0].scored_from, 1);
}

TEST_F(TaskScoring, LongContinuationsAreScoredInPieces) {
  const Task task{"t", TaskKind::kLastWord, {{"x", {" " + std::string(200, 'a')}, 0}}};
  FakeScorer scorer(kVocabulary, like_a);
  EXPECT_NEAR(score(scorer, task)[0].log_probability[0],
              200 * std::log(2.0) - 201 * std::log(129.0), 1e-4);
}

TEST_F(TaskScoring, ComparisonIsPaired) {
  Task task{"t", TaskKind::kChoices, {}};
  std::vector<ItemScore> scores, reference;
  for (int i = 0; i < 100; ++i) {
    task.items.push_back({"x", {" a", " b"}, 0});
    // The model is wrong on items 0 to 9, the reference on 3 to 8 and 10 to 11.
    scores.push_back({.log_probability = {i < 10 ? -2.0 : 0.0, -1}, .greedy = false});
    const bool wrong = (i >= 3 && i < 9) || i == 10 || i == 11;
    reference.push_back({.log_probability = {wrong ? -2.0 : 0.0, -1}, .greedy = false});
  }
  const TaskResult result = summarize_task(task, scores, reference);
  const TaskComparison& comparison = *result.comparison;
  EXPECT_EQ(result.accuracy.value, 0.9);
  EXPECT_EQ(comparison.reference_accuracy.value, 0.92);
  EXPECT_DOUBLE_EQ(comparison.accuracy_difference.value, -0.02);
  EXPECT_NEAR(comparison.accuracy_difference.low,
              3.0 / 102 - 5.0 / 102 - 1.959964 * std::sqrt((8.0 / 102 - 4.0 / 10404) / 102), 1e-6);
  EXPECT_EQ(comparison.same_answers.value, 0.94);
  EXPECT_EQ(comparison.accuracy_norm_difference.value, comparison.accuracy_difference.value);
}

TEST_F(TaskScoring, LastWordsCompareTheirPerplexities) {
  const Task task{"t", TaskKind::kLastWord, {{"x", {" a"}, 0}, {"x", {" b"}, 0}}};
  const std::vector<ItemScore> scores{{.log_probability = {-2}, .greedy = true},
                                      {.log_probability = {-3}, .greedy = false}};
  const std::vector<ItemScore> reference{{.log_probability = {-1}, .greedy = true},
                                         {.log_probability = {-2}, .greedy = true}};
  const TaskComparison comparison = *summarize_task(task, scores, reference).comparison;
  EXPECT_NEAR(comparison.perplexity_ratio.value, std::exp(1.0), 1e-12);
  EXPECT_NEAR(comparison.reference_perplexity.value, std::exp(1.5), 1e-12);
  EXPECT_DOUBLE_EQ(comparison.accuracy_difference.value, -0.5);
}

}  // namespace
}  // namespace fewbits
