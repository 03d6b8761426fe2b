#include "engine/generate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>

#include "base/error.h"
#include "base/source_dir.h"
#include "model/tiny_checkpoint.h"

namespace fewbits {
namespace {

using testing::StartsWith;

std::string read_text(const std::filesystem::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// What the model says after BOS, greedily, and how it goes on after the first half of that.
void expect_published_story(const Model& model, PackOptions pack, int threads) {
  const std::filesystem::path golden = source_dir() / "tests/golden/engine/stories260k.txt";
  const std::string published = read_text(golden);
  ThreadPool pool(threads);
  Engine engine(model, pool, {.pack = pack});
  KvCache cache(model.config, model.config.context);
  const std::vector<Token> prompt = {*model.tokenizer.bos()};
  const GenerateResult story = generate(engine, cache, prompt, {.max_tokens = 200});
  ASSERT_EQ(story.tokens.size(), 200u);
  EXPECT_GT(story.text.size(), 400u);
  EXPECT_THAT(published, StartsWith(story.text));

  std::vector<Token> half = prompt;
  half.insert(half.end(), story.tokens.begin(), story.tokens.begin() + 100);
  const GenerateResult rest = generate(engine, cache, half, {.max_tokens = 100});
  EXPECT_EQ(rest.prefilled_tokens, 1);  // the cache still held the others
  EXPECT_TRUE(std::ranges::equal(rest.tokens, std::span(story.tokens).last(100)));
}

TEST(Generate, TellsThePublishedStory) {
  const std::filesystem::path folder = source_dir() / "../shared/data/stories260k-f32";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "no stories260K at " << folder;
  const Model model = open_model(folder);
  for (const int threads : {1, 3}) expect_published_story(model, {}, threads);
  expect_published_story(model, {.float_math = true}, 2);
  expect_published_story(model, {.repack = false}, 2);
}

class TinyGenerate : public testing::Test {
 protected:
  GenerateResult run(const std::vector<Token>& prompt, GenerateOptions options,
                     int64_t capacity = 64) {
    Engine engine(model_, pool_);
    KvCache cache(model_.config, capacity);
    return generate(engine, cache, prompt, options);
  }

  TinyCheckpoint checkpoint_;
  Model model_ = open_model(checkpoint_.write());
  ThreadPool pool_{2};
  const std::vector<Token> prompt_ = model_.tokenizer.encode_with_bos("hello");
};

TEST_F(TinyGenerate, CountsAndStopsAtTheLimit) {
  const GenerateResult result = run(prompt_, {.max_tokens = 7});
  EXPECT_EQ(result.stop, StopReason::kLength);
  EXPECT_EQ(result.tokens.size(), 7u);
  EXPECT_EQ(result.prompt_tokens, static_cast<int64_t>(prompt_.size()));
  EXPECT_EQ(result.decoded_tokens, 6);  // nobody asked what comes after the seventh
  EXPECT_GT(result.decode_tokens_per_second(), 0);
}

TEST_F(TinyGenerate, GeneratesNothingWhereNothingIsAsked) {
  const GenerateResult result = run(prompt_, {.max_tokens = 0});
  EXPECT_EQ(result.text, "");
  EXPECT_EQ(result.stop, StopReason::kLength);
}

TEST_F(TinyGenerate, StopsWhereTheContextIsFull) {
  const GenerateResult result = run(prompt_, {.max_tokens = 100}, 10);
  EXPECT_EQ(result.stop, StopReason::kContextFull);
  // The last token found no room in the cache, but it was chosen.
  EXPECT_EQ(result.tokens.size(), 10 - prompt_.size() + 1);
}

TEST_F(TinyGenerate, RefusesPromptsThatAreEmptyOrTooLong) {
  EXPECT_THROW(run({}, {}), Error);
  EXPECT_THROW(run(prompt_, {}, static_cast<int64_t>(prompt_.size()) - 1), Error);
  EXPECT_NO_THROW(run(prompt_, {}, static_cast<int64_t>(prompt_.size())));
}

TEST_F(TinyGenerate, StopsAtStopTokensOfTheModel) {
  const GenerateResult free = run(prompt_, {.max_tokens = 5});
  model_.stop_tokens = {free.tokens[0]};
  const GenerateResult stopped = run(prompt_, {.max_tokens = 5});
  EXPECT_EQ(stopped.stop, StopReason::kEndOfText);
  EXPECT_TRUE(stopped.tokens.empty());
}

TEST_F(TinyGenerate, GivesOutTheTextThatItReturns) {
  std::string streamed;
  GenerateOptions options{.sampler = {.temperature = 1.5, .seed = 11}, .max_tokens = 40};
  options.on_text = [&](std::string_view text) { streamed += text; };
  const GenerateResult result = run(prompt_, options);
  EXPECT_EQ(streamed, result.text);
  EXPECT_EQ(run(prompt_, options).text, result.text);

  // The same, cut before a character that the text is known to hold.
  const auto found =
      std::ranges::find_if(result.text, [](unsigned char c) { return c > 32 && c < 127; });
  ASSERT_NE(found, result.text.end());
  options.stop_strings = {std::string(1, *found)};
  const GenerateResult cut = run(prompt_, options);
  EXPECT_EQ(cut.stop, StopReason::kStopString);
  EXPECT_EQ(cut.text, result.text.substr(0, result.text.find(options.stop_strings[0])));
}

}  // namespace
}  // namespace fewbits
