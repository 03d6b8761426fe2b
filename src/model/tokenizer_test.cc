#include "model/tokenizer.h"

#include <gtest/gtest.h>

#include <filesystem>

namespace fewbits {
namespace {

std::filesystem::path shared(const char* name) {
  return std::filesystem::path(FEWBITS_SOURCE_DIR) / "../shared/data" / name;
}

TEST(Tokenizer, Stories) {
  const auto folder = shared("stories260k-f32");
  if (!exists(folder)) GTEST_SKIP() << folder << " is missing";
  const auto tokenizer =
      Tokenizer::from_json(read_json_file(folder / "tokenizer.json"),
                           read_json_file(folder / "tokenizer_config.json"), "stories");
  const auto tokens = tokenizer.encode_with_bos("Once upon a time");
  EXPECT_EQ(tokens, (std::vector<Token>{1, 403, 407, 261, 378}));
  EXPECT_EQ(tokenizer.decode(tokens), "Once upon a time");
}

}  // namespace
}  // namespace fewbits
