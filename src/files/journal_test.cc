#include "files/journal.h"

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <string>

#include "base/error.h"
#include "files/testing.h"

namespace fewbits {
namespace {

const Json kIdentity = {{"version", "1"},
                        {"source", {{{"name", "model"}, {"sha256", "ab"}}}},
                        {"recipe", {{"to", "Q4_0"}}}};

std::string contents(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

size_t records_in(const std::string& text) {
  return parse_journal(std::as_bytes(std::span(text)), "").records.size();
}

/// A journal with records {"n": 0} to {"n": count - 1}, left behind as by a killed run.
std::filesystem::path left_behind(const std::filesystem::path& out, int count) {
  Journal journal(out);
  journal.identify(kIdentity, false);
  for (int i = 0; i < count; ++i) journal.append({{"n", i}});
  journal.keep();
  return journal.path();
}

std::string error_of(const std::filesystem::path& out, const Json& identity) {
  try {
    Journal(out).identify(identity, false);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(Journal, RemembersWhatWasAppended) {
  const TestFolder folder;
  left_behind(folder / "out", 3);
  Journal journal(folder / "out");
  journal.identify(kIdentity, false);
  ASSERT_EQ(journal.records().size(), 3u);
  EXPECT_EQ(journal.records()[2]["n"], 2);
  journal.truncate(1);
  journal.append({{"n", 7}});
  journal.keep();
  EXPECT_EQ(records_in(contents(journal.path())), 2u);
}

TEST(Journal, IsGoneWithTheRunThatEnds) {
  const TestFolder folder;
  const auto path = left_behind(folder / "out", 1);
  EXPECT_TRUE(std::filesystem::exists(path));
  { Journal(folder / "out").identify(kIdentity, false); }
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST(Journal, CutOrChangedAnywhereItKeepsWhatCameBefore) {
  const TestFolder folder;
  const std::string whole = contents(left_behind(folder / "out", 4));
  const JournalText text = parse_journal(std::as_bytes(std::span(whole)), "");
  ASSERT_EQ(text.records.size(), 4u);
  for (size_t i = 0; i < whole.size(); ++i) {
    size_t before = 0;  // records that end at or before i
    while (before < 4 && text.ends[before] <= static_cast<int64_t>(i)) ++before;
    EXPECT_EQ(records_in(whole.substr(0, i)), before) << i;
    std::string changed = whole;
    changed[i] = static_cast<char>(changed[i] ^ 4);
    EXPECT_EQ(records_in(changed), before) << i;
  }
}

TEST(Journal, SaysWhatDiffers) {
  const TestFolder folder;
  left_behind(folder / "out", 1);
  Json other = kIdentity;
  other["recipe"]["to"] = "Q5_0";
  EXPECT_NE(error_of(folder / "out", other).find("recipe: to was \"Q4_0\", is \"Q5_0\""),
            std::string::npos);
  other = kIdentity;
  other["source"][0]["sha256"] = "cd";
  EXPECT_NE(error_of(folder / "out", other).find("'model' is not the file it was"),
            std::string::npos);
  other = kIdentity;
  other["recipe"].erase("to");
  EXPECT_NE(error_of(folder / "out", other), "");
  other["recipe"]["pure"] = true;
  EXPECT_NE(error_of(folder / "out", other), "");
  EXPECT_EQ(error_of(folder / "out", kIdentity), "");
}

TEST(Journal, ASecondRunIsRefused) {
  const TestFolder folder;
  Journal first(folder / "out");
  EXPECT_THROW(Journal(folder / "out"), Error);
  EXPECT_TRUE(std::filesystem::exists(first.path()));
  Journal other(folder / "other");
}

TEST(Journal, OfANewerSchemaIsRefused) {
  const std::string line = "4cc637f3ce86dae9 {\"fewbits_journal\": 99}\n";
  EXPECT_THROW(records_in(line), Error);
}

}  // namespace
}  // namespace fewbits
