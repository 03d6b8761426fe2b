#include "calibrate/samples.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <set>

#include "base/error.h"
#include "model/tiny_checkpoint.h"

namespace fewbits {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

TEST(SplitSamples, HoldsOutEverySoManyth) {
  const SampleSplit split = split_samples(7, 0.34);
  EXPECT_THAT(split.learned, ElementsAre(0, 1, 3, 4, 6));
  EXPECT_THAT(split.held_out, ElementsAre(2, 5));
}

TEST(SplitSamples, HoldsOutTheLastOfAFew) {
  const SampleSplit split = split_samples(3, 0.1);
  EXPECT_THAT(split.learned, ElementsAre(0, 1));
  EXPECT_THAT(split.held_out, ElementsAre(2));
}

TEST(SplitSamples, LearnsFromTheOnlyOne) {
  const SampleSplit split = split_samples(1, 0.5);
  EXPECT_THAT(split.learned, ElementsAre(0));
  EXPECT_TRUE(split.held_out.empty());
  EXPECT_TRUE(split_samples(0, 0.5).learned.empty());
}

class Samples : public ::testing::Test {
 protected:
  std::filesystem::path file(const std::string& name, const std::string& text) {
    const auto path = checkpoint_ / name;
    std::ofstream(path) << text;
    return path;
  }

  std::vector<std::vector<Token>> take(const std::filesystem::path& path,
                                       const SampleOptions& options) {
    const Model model = open_model(checkpoint_.write());
    return take_samples(model, std::vector{path}, options);
  }

  TinyCheckpoint checkpoint_;
};

std::string sentences(int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += "sentence " + std::to_string(i * 7919) + " of many. ";
  return text;
}

TEST_F(Samples, ASeedTakesOtherRunsOfTheSameStretches) {
  const auto path = file("text.txt", sentences(1000));
  const SampleOptions first{.count = 8, .length = 32};
  SampleOptions other = first;
  other.seed = 5;
  const auto at_zero = take(path, first), at_five = take(path, other);
  ASSERT_EQ(at_five.size(), 8);
  EXPECT_NE(at_zero, at_five);
  EXPECT_EQ(at_five, take(path, other));
  EXPECT_EQ(std::set(at_five.begin(), at_five.end()).size(), 8) << "no run twice";
}

TEST_F(Samples, LinesOfJsonAreDocumentsWithTheirEndsMarked) {
  const auto lines = file("text.jsonl", "{\"text\": \"" + sentences(20) + "\", \"id\": 1}\n\n" +
                                            "{\"text\": \"" + sentences(20) + "\"}\n");
  const Model model = open_model(checkpoint_.write());
  std::vector<Token> expected = model.tokenizer.encode(sentences(20));
  if (model.tokenizer.eos()) expected.push_back(*model.tokenizer.eos());
  const auto all = take(lines, {.count = 1, .length = std::ssize(expected)});
  expected.front() = all[0].front();  // perhaps BOS
  EXPECT_EQ(all[0], expected);
}

TEST_F(Samples, MessagesGoThroughTheModelsTemplate) {
  checkpoint_.tokenizer_config["chat_template"] =
      "{% for m in messages %}{{ m.role }} says {{ m.content }}; {% endfor %}"
      "{% if add_generation_prompt %}and then{% endif %}";
  const auto lines =
      file("chat.jsonl", R"({"messages": [{"role": "user", "content": "hello there"}, )"
                         R"({"role": "assistant", "content": "good day to you"}]})");
  const Model model = open_model(checkpoint_.write());
  std::vector<Token> expected =
      model.tokenizer.encode("user says hello there; assistant says good day to you; ");
  const auto all = take(lines, {.count = 1, .length = std::ssize(expected)});
  expected.front() = all[0].front();  // perhaps BOS
  EXPECT_EQ(all[0], expected);
}

TEST_F(Samples, LinesThatAreNoDocumentsAreNamed) {
  const SampleOptions options{.count = 1, .length = 16};
  EXPECT_THAT([&] { take(file("a.jsonl", "{\"text\": \"x\"}\n{\"prompt\": \"x\"}\n"), options); },
              ThrowsMessage<Error>(HasSubstr("a.jsonl: line 2: a line is {\"text\"")));
  EXPECT_THAT([&] { take(file("b.jsonl", "no json\n"), options); },
              ThrowsMessage<Error>(HasSubstr("b.jsonl: line 1")));
  EXPECT_THAT([&] { take(file("c.jsonl", "{\"text\": 5}\n"), options); },
              ThrowsMessage<Error>(HasSubstr("line 1")));
  EXPECT_THAT([&] { take(file("d.jsonl", "{\"messages\": []}\n"), options); },
              ThrowsMessage<Error>(HasSubstr("no chat template")));
}

}  // namespace
}  // namespace fewbits
