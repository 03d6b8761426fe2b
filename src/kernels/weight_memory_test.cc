#include "kernels/weight_memory.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace fewbits {
namespace {

bool holds_only(const WeightMemory& memory, std::byte value) {
  return std::all_of(memory.data(), memory.data() + memory.size(),
                     [&](std::byte byte) { return byte == value; });
}

TEST(WeightMemory, PiecesKeepTheirOwnPages) {
  std::vector<WeightMemory> pieces;
  for (int64_t bytes : {1, 4096, 5000, 3 << 20, 70 << 20, 1 << 20, 60 << 20, 12345})
    pieces.emplace_back(bytes);
  for (size_t i = 0; i < pieces.size(); ++i) {
    EXPECT_EQ(reinterpret_cast<uintptr_t>(pieces[i].data()) % 4096, 0);
    std::fill_n(pieces[i].data(), pieces[i].size(), static_cast<std::byte>(i + 1));
  }
  for (size_t i = 0; i < pieces.size(); i += 2) pieces[i] = WeightMemory();  // gives pages back
  for (size_t i = 1; i < pieces.size(); i += 2)
    EXPECT_TRUE(holds_only(pieces[i], static_cast<std::byte>(i + 1))) << i;
}

TEST(WeightMemory, SmallPiecesLieSideBySide) {
  const WeightMemory first(8192), second(8192);
  EXPECT_EQ(second.data() - first.data(), 8192);
}

TEST(WeightMemory, NothingTakesNoMemory) {
  const WeightMemory nothing(0);
  EXPECT_EQ(nothing.data(), nullptr);
  EXPECT_EQ(nothing.size(), 0);
}

TEST(WeightMemory, Moves) {
  WeightMemory from(100);
  std::fill_n(from.data(), from.size(), std::byte{7});
  const WeightMemory to = std::move(from);
  EXPECT_TRUE(holds_only(to, std::byte{7}));
  EXPECT_EQ(from.data(), nullptr);  // NOLINT(bugprone-use-after-move): what a move leaves is tested
}

}  // namespace
}  // namespace fewbits
