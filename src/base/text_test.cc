#include "base/text.h"

#include <gtest/gtest.h>

namespace fewbits {
namespace {

TEST(Text, HumanBytes) {
  EXPECT_EQ(human_bytes(0), "0 B");
  EXPECT_EQ(human_bytes(999), "999 B");
  EXPECT_EQ(human_bytes(1000), "1.00 KB");
  EXPECT_EQ(human_bytes(105'500'000), "106 MB");
  EXPECT_EQ(human_bytes(999'999), "1.00 MB");
  EXPECT_EQ(human_bytes(12'345'678'901), "12.3 GB");
}

TEST(Text, GlobMatch) {
  EXPECT_TRUE(glob_match("*", ""));
  EXPECT_TRUE(glob_match("blk.*.attn_?.weight", "blk.12.attn_q.weight"));
  EXPECT_FALSE(glob_match("blk.*.attn_?.weight", "blk.12.attn_norm.weight"));
  EXPECT_TRUE(glob_match("*a*b", "xaayab"));
  EXPECT_FALSE(glob_match("*a*b", "xaayaba"));
  EXPECT_FALSE(glob_match("", "a"));
}

TEST(Text, UnknownNameSuggestsTheNearest) {
  EXPECT_EQ(unknown_name("q4k", "format", {"F16", "Q4_K"}),
            "'q4k' is no format (did you mean 'Q4_K'?); known: F16, Q4_K");
  EXPECT_EQ(unknown_name("zzzzzz", "format", {"F16"}), "'zzzzzz' is no format; known: F16");
}

}  // namespace
}  // namespace fewbits
