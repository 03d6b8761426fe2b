#include <fmt/format.h>
#include <gtest/gtest.h>

#include "files/safetensors.h"
#include "files/testing.h"

namespace fewbits {
namespace {

namespace fs = std::filesystem;

std::string one_tensor(std::string_view name) {
  const std::string header =
      fmt::format(R"({{"{}":{{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}}})", name);
  return safetensors_file(header, 8);
}

/// {"a": shard 1, "b": shard 2}
void write_index(const TestFolder& folder, std::string_view first, std::string_view second) {
  write_file(folder / "model.safetensors.index.json",
             fmt::format(R"({{"metadata":{{"total_size":16}},"weight_map":{{"a":"{}","b":"{}"}}}})",
                         first, second));
}

/// What is said after the folder's path.
std::string refusal(const TestFolder& folder) {
  const std::string error = error_of([&] { open_safetensors_folder(folder.path()); });
  const std::string path = folder.path().string();
  return error.starts_with(path) ? error.substr(path.size()) : error;
}

TEST(SafetensorsFolder, SingleFile) {
  TestFolder folder;
  write_file(folder / "model.safetensors", one_tensor("a"));
  const TensorStore store = open_safetensors_folder(folder.path());
  ASSERT_NE(store.find("a"), nullptr);
  EXPECT_EQ(store.find("a")->file->size(), store.file_bytes());
  EXPECT_EQ(store.find("b"), nullptr);
}

TEST(SafetensorsFolder, Shards) {
  TestFolder folder;
  write_index(folder, "1.safetensors", "2.safetensors");
  write_file(folder / "1.safetensors", one_tensor("a"));
  write_file(folder / "2.safetensors", one_tensor("b"));
  TensorStore opened = open_safetensors_folder(folder.path());
  const TensorStore store = std::move(opened);  // names and files stay where they are
  ASSERT_NE(store.find("b"), nullptr);
  EXPECT_NE(store.find("a")->file, store.find("b")->file);
  EXPECT_EQ(store.find("b")->view.bytes.size(), 8u);
}

TEST(SafetensorsFolder, RefusesWhatIsMissing) {
  TestFolder folder;
  EXPECT_EQ(refusal(folder), ": holds neither model.safetensors nor model.safetensors.index.json");
  write_index(folder, "1.safetensors", "2.safetensors");
  write_file(folder / "1.safetensors", one_tensor("a"));
  EXPECT_EQ(refusal(folder),
            "/model.safetensors.index.json: shard '2.safetensors' is missing; download it again");
  write_file(folder / "2.safetensors", one_tensor("c"));
  EXPECT_EQ(refusal(folder),
            "/model.safetensors.index.json: tensor 'b' should be in '2.safetensors', but is not");
  write_file(folder / "2.safetensors", one_tensor("a"));
  EXPECT_EQ(refusal(folder), "/model.safetensors.index.json: tensor 'a' is there twice");
}

TEST(SafetensorsFolder, RefusesBadIndexes) {
  TestFolder folder;
  const auto with_index = [&](std::string_view text) {
    write_file(folder / "model.safetensors.index.json", text);
    return refusal(folder);
  };
  constexpr std::string_view kNoMap =
      "/model.safetensors.index.json: 'weight_map' must map tensor names to files";
  EXPECT_EQ(with_index("[]"), kNoMap);
  EXPECT_EQ(with_index("{}"), kNoMap);
  EXPECT_EQ(with_index(R"({"weight_map":[]})"), kNoMap);
  EXPECT_EQ(with_index(R"({"weight_map":{}})"), kNoMap);
  EXPECT_EQ(with_index(R"({"weight_map":{"a":1}})"),
            "/model.safetensors.index.json: the file of tensor 'a' must be a string");
  EXPECT_NE(with_index("{").find("bad JSON"), std::string::npos);
}

TEST(SafetensorsFolder, RefusesNamesThatLeadOutside) {
  TestFolder folder;
  TestFolder elsewhere;
  write_file(elsewhere / "x.safetensors", one_tensor("a"));
  fs::create_symlink(elsewhere / "x.safetensors", folder / "link.safetensors");
  fs::create_directory_symlink(elsewhere.path(), folder / "door");
  const std::string absolute = (elsewhere / "x.safetensors").string();
  for (const std::string name : {"../x.safetensors", "sub/../../x", "..", "", "a\\u0000b"}) {
    write_index(folder, name, name);
    EXPECT_NE(refusal(folder).find("is no file name inside the folder"), std::string::npos) << name;
  }
  write_index(folder, absolute, absolute);
  EXPECT_NE(refusal(folder).find("is no file name inside the folder"), std::string::npos);
  for (const std::string name : {"link.safetensors", "door/x.safetensors"}) {
    write_index(folder, name, name);
    EXPECT_NE(refusal(folder).find("outside the folder"), std::string::npos) << name;
  }
  fs::create_symlink(elsewhere / "x.safetensors", folder / "model.safetensors");
  EXPECT_NE(refusal(folder).find("outside the folder"), std::string::npos);
}

TEST(SafetensorsFolder, LinksInsideAndIntoTheHuggingFaceCache) {
  TestFolder model;
  fs::create_directories(model / "snapshots/abc/parts");
  fs::create_directories(model / "blobs");
  const fs::path folder = model / "snapshots/abc";
  write_file(model / "blobs/1234", one_tensor("a"));
  fs::create_symlink("../../blobs/1234", folder / "model.safetensors");
  EXPECT_NE(open_safetensors_folder(folder).find("a"), nullptr);

  fs::remove(folder / "model.safetensors");
  write_file(folder / "parts/1", one_tensor("a"));
  fs::create_symlink("parts/1", folder / "model.safetensors");
  EXPECT_NE(open_safetensors_folder(folder).find("a"), nullptr);
}

}  // namespace
}  // namespace fewbits
