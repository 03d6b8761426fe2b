#include "evaluate/task.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "base/error.h"
#include "base/source_dir.h"

namespace fewbits {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

TEST(Task, ReadsMultipleChoice) {
  const Task task = parse_task(
      R"({"query": "Predators eat", "choices": ["lions", "grass"], "gold": 1})"
      "\n\n"
      R"({"query": "Fog is over", "choices": ["a marsh", "a tundra", "the plains"], "gold": 0})"
      "\n",
      "test");
  EXPECT_EQ(task.kind, TaskKind::kChoices);
  ASSERT_EQ(task.items.size(), 2u);
  EXPECT_EQ(task.items[0].context, "Predators eat");
  EXPECT_THAT(task.items[0].continuations, ElementsAre(" lions", " grass"));
  EXPECT_EQ(task.items[0].right, 1);
  EXPECT_EQ(task.items[1].continuations.size(), 3u);
}

TEST(Task, PosesQuestionsAsTheHarnessDoes) {
  const auto context_of = [](const std::string& query) {
    return parse_task(R"({"query": ")" + query + R"(", "choices": ["a", "b"], "gold": 0})", "test")
        .items[0]
        .context;
  };
  EXPECT_EQ(context_of("Question: why?"), "Question: why?\nAnswer:");
  EXPECT_EQ(context_of("Question: how?\\n"), "Question: how?\nAnswer:");
  EXPECT_EQ(context_of("Passage: x.\\nQuestion: is it?"), "Passage: x.\nQuestion: is it?\nAnswer:");
  EXPECT_EQ(context_of("The woman retired, therefore"), "The woman retired, therefore");
}

TEST(Task, ReadsLastWords) {
  const Task task = parse_task(R"({"context": "I don't care about", "continuation": "signs"})"
                               "\n"
                               R"({"context": "They all said ", "continuation": " no"})",
                               "test");
  EXPECT_EQ(task.kind, TaskKind::kLastWord);
  EXPECT_THAT(task.items[0].continuations, ElementsAre(" signs"));
  EXPECT_EQ(task.items[1].context, "They all said");
  EXPECT_THAT(task.items[1].continuations, ElementsAre(" no"));
}

TEST(Task, ReadsHellaSwag) {
  const Task task = parse_task(
      "Roof: A man sits. he\n3\nsings.\nruns.\nsleeps.\nstarts working.\n"
      "Jump: A boy runs. the boy\n0\njumps.\nflies.\nswims.\neats.\n",
      "test");
  ASSERT_EQ(task.items.size(), 2u);
  EXPECT_EQ(task.items[0].context, "Roof: A man sits. he");
  EXPECT_EQ(task.items[0].right, 3);
  EXPECT_THAT(task.items[1].continuations, ElementsAre(" jumps.", " flies.", " swims.", " eats."));
}

TEST(Task, LimitTakesTheFirst) {
  const std::string line = R"({"context": "a", "continuation": "b"})";
  EXPECT_EQ(parse_task(line + "\n" + line + "\n" + "broken", "test", 2).items.size(), 2u);
  EXPECT_THROW(parse_task(line, "test", -1), Error);
}

void expect_refused(const std::string& text, const std::string& message) {
  EXPECT_THAT([&] { parse_task(text, "tasks.jsonl"); }, ThrowsMessage<Error>(HasSubstr(message)))
      << text;
}

TEST(Task, RefusesWithTheLine) {
  expect_refused("", "tasks.jsonl: the file is empty");
  expect_refused(" \n\n", "the file is empty");
  expect_refused("BZh91AY", "unpack it first");
  expect_refused("{\"query\": \"a\"", "line 1");
  expect_refused(R"({"query": "a", "gold": 0})", "'choices' must be a list");
  expect_refused(R"({"query": "a", "gold": 0, "choices": ["b"]})", "list of 2");
  expect_refused(R"({"query": "a", "gold": 0, "choices": ["b", 3]})", "a choice is no text");
  expect_refused(R"({"query": "a", "gold": 0, "choices": ["b", " "]})", "an empty continuation");
  expect_refused(R"({"query": "a", "gold": 2, "choices": ["b", "c"]})",
                 "choice 2 is said to be right, there are 2");
  expect_refused(R"({"query": "a", "gold": -1, "choices": ["b", "c"]})", "choice -1");
  expect_refused(
      "{\"context\": \"a\", \"continuation\": \"b\"}\n{\"query\": \"a\", \"gold\": 0, \"choices\": "
      "[\"b\", \"c\"]}",
      "line 2: another kind");
  expect_refused("Some text\nthat is no task\n", "six plain lines per item");
  expect_refused("Roof: he\n1\na\nb\n", "the file ends where an ending should follow");
  expect_refused("Roof: he\n1\na\n\nb\nc\n", "line 4: empty");
  expect_refused("Roof: he\n4\na\nb\nc\nd\n", "choice 4");
}

struct DataSet {
  const char* file;
  size_t items;
  TaskKind kind;
};

TEST(Task, ReadsTheSharedData) {
  const std::filesystem::path folder = source_dir() / "../shared/data/mc-sets";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << folder << " is missing";
  for (const DataSet& set : {DataSet{"piqa.jsonl", 1838, TaskKind::kChoices},
                             {"arc_easy.jsonl", 2376, TaskKind::kChoices},
                             {"arc_challenge.jsonl", 1172, TaskKind::kChoices},
                             {"openbook_qa.jsonl", 500, TaskKind::kChoices},
                             {"copa.jsonl", 100, TaskKind::kChoices},
                             {"boolq.jsonl", 3270, TaskKind::kChoices},
                             {"lambada_openai.jsonl", 5153, TaskKind::kLastWord}}) {
    const Task task = read_task(folder / set.file);
    EXPECT_EQ(task.items.size(), set.items) << set.file;
    EXPECT_EQ(task.kind, set.kind) << set.file;
  }
  EXPECT_EQ(read_task(folder / "piqa.jsonl", 3).name, "piqa");
  EXPECT_THROW(read_task(folder / "hellaswag_val_full.txt.bz2"), Error);
}

}  // namespace
}  // namespace fewbits
