#include "engine/text_stream.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace fewbits {
namespace {

/// Pieces as they were shown, joined by '|'.
std::string shown(std::vector<std::string> stops, const std::vector<std::string>& pieces) {
  std::string all;
  TextStream stream(std::move(stops), [&](std::string_view text) {
    all += all.empty() ? "" : "|";
    all += text;
  });
  bool open = true;
  for (const std::string& piece : pieces) open = open && stream.add(piece);
  stream.finish();
  return all;
}

TEST(TextStream, ShowsPiecesAsTheyCome) {
  EXPECT_EQ(shown({}, {"a", "bc", ""}), "a|bc");
}

TEST(TextStream, WaitsForWholeCharacters) {
  EXPECT_EQ(shown({}, {"x\xf0\x9f", "\x98", "\x80y"}), "x|\xf0\x9f\x98\x80y");
}

TEST(TextStream, ReplacesWhatIsNoCharacter) {
  EXPECT_EQ(shown({}, {"a\x80z"}), "a\xef\xbf\xbdz");
  EXPECT_EQ(shown({}, {"a\xe2\x82"}), "a|\xef\xbf\xbd");  // cut short at the end
  EXPECT_EQ(shown({}, {"\xe2\x82z"}), "\xef\xbf\xbdz");   // cut short in the middle
  EXPECT_EQ(shown({}, {"\xed\xa0\x80"}), "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");  // a surrogate
  EXPECT_EQ(shown({}, {"\xc0\x80"}), "\xef\xbf\xbd\xef\xbf\xbd");  // an overlong zero
}

TEST(TextStream, StopsBeforeAStopString) {
  EXPECT_EQ(shown({"END"}, {"one ", "twoENDthree", "four"}), "one |two");
  EXPECT_EQ(shown({"lo w", "hel"}, {"hello world"}), "");
}

TEST(TextStream, FindsStopStringsAcrossPieces) {
  EXPECT_EQ(shown({"\nUser:"}, {"yes", "\nU", "se", "r", ": no"}), "yes");
  EXPECT_EQ(shown({"aab"}, {"a", "a", "a", "b", "c"}), "a");
}

TEST(TextStream, ShowsWhatTurnsOutToBeNoStop) {
  EXPECT_EQ(shown({"\nUser:"}, {"yes", "\nU", "p"}), "yes|\nUp");
  EXPECT_EQ(shown({"stop"}, {"sto"}), "sto");
  EXPECT_EQ(shown({""}, {"abc"}), "abc");
}

TEST(TextStream, KeepsTheWholeText) {
  TextStream stream({"."}, {});
  EXPECT_TRUE(stream.add("a b"));
  EXPECT_FALSE(stream.add("c. d"));
  EXPECT_EQ(stream.text(), "a bc");
}

}  // namespace
}  // namespace fewbits
