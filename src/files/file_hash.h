#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace fewbits {

struct FileHash {
  std::string name;  ///< without its folder
  int64_t bytes = 0;
  std::string sha256;

  bool operator==(const FileHash&) const = default;
};

/// Files in a fixed order, hashed one after another. `on_bytes` is told of every few megabytes and
/// may throw. Throws Error where a file cannot be read.
std::vector<FileHash> hash_files(const std::vector<std::filesystem::path>& files,
                                 const std::function<void(int64_t bytes)>& on_bytes);

/// What a checkpoint consists of: the file itself, or the weights and the JSON files of a folder,
/// sorted by name.
std::vector<std::filesystem::path> checkpoint_files(const std::filesystem::path& checkpoint);

}  // namespace fewbits
