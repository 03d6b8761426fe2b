#include "pipeline/state_store.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <numeric>

#include "base/error.h"

namespace fewbits {
namespace {

TEST(StateStore, GivesBackWhatWasWrittenInMemoryAndInAFile) {
  const std::filesystem::path folder = std::filesystem::temp_directory_path();
  for (const bool spilled : {false, true}) {
    StateStore store(1000, spilled ? std::optional(folder) : std::nullopt);
    std::vector<float> values(300), found(200);
    std::iota(values.begin(), values.end(), 1.0f);
    store.write(100, values);
    StateStore moved = std::move(store);
    moved.read(150, found);
    for (size_t i = 0; i < found.size(); ++i) EXPECT_EQ(found[i], values[i + 50]);
    EXPECT_EQ(moved.size(), 1000);
  }
}

TEST(StateStore, AFolderThatIsNotThere) {
  EXPECT_THROW(StateStore(10, "/no/such/folder"), DiskError);
}

}  // namespace
}  // namespace fewbits
