#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <fstream>
#include <vector>

#include "base/json.h"
#include "files/safetensors.h"
#include "files/testing.h"

// A checkpoint of 140 GB, all holes, opens by its headers alone.
namespace fewbits {
namespace {

namespace fs = std::filesystem;

constexpr int kShards = 28;
constexpr int kTensorsInShard = 25;
constexpr int64_t kRows = 12'500;
constexpr int64_t kColumns = 8'000;  // tensors of 200 MB

std::string shard_header(int shard) {
  Json header = Json::object();
  constexpr int64_t kBytes = kRows * kColumns * 2;
  for (int64_t i = 0; i < kTensorsInShard; ++i) {
    header[fmt::format("shard{}.{}", shard, i)] = {
        {"dtype", "BF16"},
        {"shape", {kRows, kColumns}},
        {"data_offsets", {i * kBytes, (i + 1) * kBytes}}};
  }
  return header.dump();
}

/// False where the file system has no holes or no files of that size.
bool make_checkpoint(const TestFolder& folder) {
  Json map = Json::object();
  std::error_code error;
  for (int shard = 0; shard < kShards && !error; ++shard) {
    const std::string name = fmt::format("{}.safetensors", shard);
    const std::string header = safetensors_file(shard_header(shard), 0);
    write_file(folder / name, header);
    const auto data = static_cast<uintmax_t>(kTensorsInShard * kRows * kColumns * 2);
    fs::resize_file(folder / name, header.size() + data, error);
    for (int i = 0; i < kTensorsInShard; ++i) map[fmt::format("shard{}.{}", shard, i)] = name;
  }
  write_file(folder / "model.safetensors.index.json", Json{{"weight_map", map}}.dump());
  return !error;
}

/// Pages of the process in memory, of all kinds.
int64_t resident_pages() {
  int64_t virtual_pages = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> virtual_pages >> resident;
  return resident;
}

/// Pages in the middle of a tensor that have been read from the disk by anyone.
int64_t pages_read(std::span<const std::byte> bytes) {
  constexpr size_t kPage = 4096, kPages = 256;
  const auto middle = reinterpret_cast<uintptr_t>(bytes.data() + bytes.size() / 2) / kPage * kPage;
  std::vector<unsigned char> read(kPages);
  check(::mincore(reinterpret_cast<void*>(middle), kPages * kPage, read.data()) == 0);
  return std::count_if(read.begin(), read.end(),
                       [](unsigned char page) { return (page & 1) != 0; });
}

TEST(LargeCheckpoint, OpensByItsHeaders) {
  TestFolder folder;
  if (!make_checkpoint(folder)) GTEST_SKIP() << "the temporary folder has no sparse files of 5 GB";
  const int64_t before = resident_pages();
  const TensorStore store = open_safetensors_folder(folder.path());
  EXPECT_LT(resident_pages() - before, 16 << 20 >> 12);  // 16 MiB of pages of 4 KiB
  EXPECT_GT(store.file_bytes(), 140'000'000'000);
  ASSERT_EQ(store.tensors().size(), size_t{kShards * kTensorsInShard});
  for (const StoredTensor& tensor : store.tensors()) ASSERT_EQ(pages_read(tensor.view.bytes), 0);
}

}  // namespace
}  // namespace fewbits
