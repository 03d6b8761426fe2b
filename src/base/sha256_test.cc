#include "base/sha256.h"

#include <gtest/gtest.h>

#include <string_view>

namespace fewbits {
namespace {

std::string hash_of(std::string_view text) {
  return sha256(std::as_bytes(std::span(text)));
}

TEST(Sha256, GivesThePublishedDigests) {  // FIPS 180-4's examples
  EXPECT_EQ(hash_of(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(hash_of("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(Sha256, PiecesMakeNoDifference) {
  Sha256 hash;
  for (const std::string_view part : {"a", "", "bc"}) hash.update(std::as_bytes(std::span(part)));
  EXPECT_EQ(hash.finish(), hash_of("abc"));
}

}  // namespace
}  // namespace fewbits
