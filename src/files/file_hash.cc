#include "files/file_hash.h"

#include <algorithm>
#include <span>

#include "base/mapped_file.h"
#include "base/sha256.h"

namespace fewbits {
namespace {

namespace fs = std::filesystem;

constexpr size_t kWindowBytes = size_t{8} << 20;

FileHash hash_file(const fs::path& path, const std::function<void(int64_t)>& on_bytes) {
  const MappedFile file = MappedFile::open(path);
  Sha256 hash;
  for (auto rest = file.bytes(); !rest.empty();) {
    const auto window = rest.first(std::min(rest.size(), kWindowBytes));
    rest = rest.subspan(window.size());
    file.will_read(rest.first(std::min(rest.size(), kWindowBytes)));
    hash.update(window);
    file.drop(window);
    on_bytes(std::ssize(window));
  }
  return {path.filename().string(), file.size(), hash.finish()};
}

}  // namespace

std::vector<FileHash> hash_files(const std::vector<fs::path>& files,
                                 const std::function<void(int64_t bytes)>& on_bytes) {
  std::vector<FileHash> hashes;
  for (const fs::path& path : files) hashes.push_back(hash_file(path, on_bytes));
  return hashes;
}

std::vector<fs::path> checkpoint_files(const fs::path& checkpoint) {
  if (!fs::is_directory(checkpoint)) return {checkpoint};
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(checkpoint)) {
    const fs::path extension = entry.path().extension();
    if (!entry.is_regular_file() || (extension != ".safetensors" && extension != ".json")) continue;
    files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace fewbits
