#include "files/metadata.h"

#include <gtest/gtest.h>

#include "files/testing.h"

namespace fewbits {
namespace {

Metadata example() {
  Metadata metadata;
  metadata.set_uint32("n", 7);
  metadata.set_float("x", 0.5);
  metadata.set_bool("b", true);
  metadata.set_string("s", "text");
  metadata.set_strings("ss", {"a", ""});
  metadata.set_floats("xs", {1, 2});
  metadata.set_int32s("ns", {-1, 0, 1});
  return metadata;
}

TEST(Metadata, GivesWhatWasSet) {
  const Metadata metadata = example();
  EXPECT_EQ(metadata.integer("n"), 7);
  EXPECT_EQ(metadata.number("n"), 7.0);
  EXPECT_EQ(metadata.number("x"), 0.5);
  EXPECT_EQ(metadata.boolean("b"), true);
  EXPECT_EQ(metadata.string("s"), "text");
  EXPECT_EQ(metadata.strings("ss")->size(), 2u);
  EXPECT_EQ(metadata.numbers("xs")->back(), 2.0);
  EXPECT_EQ(metadata.integers("ns")->front(), -1);
}

TEST(Metadata, MissingKeysAreNoErrors) {
  const Metadata metadata = example();
  EXPECT_FALSE(metadata.has("none"));
  EXPECT_EQ(metadata.integer("none"), std::nullopt);
  EXPECT_EQ(metadata.string("none"), std::nullopt);
  EXPECT_EQ(metadata.strings("none"), nullptr);
}

TEST(Metadata, AnotherKindIsAnErrorThatNamesBoth) {
  const Metadata metadata = example();
  EXPECT_EQ(error_of([&] { metadata.integer("s"); }),
            "metadata 's' is of type string, but must be an integer");
  EXPECT_EQ(error_of([&] { metadata.strings("ns"); }),
            "metadata 'ns' is of type array of int32, but must be an array of strings");
  EXPECT_EQ(error_of([&] { metadata.integer("b"); }),
            "metadata 'b' is of type bool, but must be an integer");
  EXPECT_NE(error_of([&] { metadata.number("ss"); }), "");
  EXPECT_NE(error_of([&] { metadata.boolean("n"); }), "");
  EXPECT_NE(error_of([&] { metadata.string("x"); }), "");
  EXPECT_NE(error_of([&] { metadata.integers("xs"); }), "");
  EXPECT_NE(error_of([&] { metadata.numbers("s"); }), "");
}

TEST(Metadata, ReplacesInPlaceAndErases) {
  Metadata metadata = example();
  metadata.set_string("n", "seven");
  EXPECT_EQ(metadata.entries().front().key, "n");
  EXPECT_EQ(metadata.string("n"), "seven");
  metadata.erase("x");
  EXPECT_EQ(metadata.entries().size(), 6u);
  EXPECT_FALSE(metadata.has("x"));
}

}  // namespace
}  // namespace fewbits
