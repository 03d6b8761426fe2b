#include "calibrate/text_overlap.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>

namespace fewbits {
namespace {

std::string words(int64_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::string text;
  for (int64_t i = 0; i < count; ++i) {
    for (int letter = 0; letter < 6; ++letter) text += static_cast<char>('a' + random() % 26);
    text += i % 10 == 9 ? '\n' : ' ';
  }
  return text;
}

TEST(TextOverlap, TheSameTextHasAllPassagesWhereverItStandsAndHoweverItIsBroken) {
  const std::string text = words(2000, 1);
  const TextSketch sketch = sketch_of(text);
  ASSERT_EQ(sketch.size(), kSketchPassages);
  EXPECT_TRUE(std::ranges::is_sorted(sketch));
  EXPECT_EQ(passages_found(sketch, text), kSketchPassages);
  std::string broken = text;
  std::ranges::replace(broken, '\n', ' ');
  EXPECT_EQ(passages_found(sketch, words(500, 2) + broken + words(500, 3)), kSketchPassages);
}

TEST(TextOverlap, AnotherTextHasNone) {
  EXPECT_EQ(passages_found(sketch_of(words(2000, 1)), words(100000, 2)), 0);
}

TEST(TextOverlap, HalfTheTextHasAboutHalfThePassages) {
  const std::string text = words(4000, 1);
  const int64_t found = passages_found(sketch_of(text), text.substr(0, text.size() / 2));
  EXPECT_GT(found, kSketchPassages / 4);
  EXPECT_LT(found, kSketchPassages * 3 / 4);
}

TEST(TextOverlap, AShortTextHasNoPassages) {
  EXPECT_TRUE(sketch_of(std::string_view("too short to be told from another")).empty());
  EXPECT_EQ(passages_found({}, words(100, 1)), 0);
  EXPECT_EQ(sketch_of(std::string(64, 'x')).size(), 1);
  EXPECT_EQ(sketch_of(std::string(1000, 'x')).size(), 1) << "each passage once";
}

}  // namespace
}  // namespace fewbits
