#include "cli/source_hashes.h"

#include <cstdint>
#include <filesystem>

#include "base/interrupt.h"
#include "cli/console.h"

namespace fewbits::cli {

std::vector<FileHash> hash_models(const std::vector<std::string>& models) {
  std::vector<std::filesystem::path> files;
  for (const std::string& model : models) {
    for (const auto& file : checkpoint_files(model)) files.push_back(file);
  }
  int64_t bytes = 0, done = 0;
  for (const auto& file : files) bytes += static_cast<int64_t>(std::filesystem::file_size(file));
  Progress progress("hashing the source", Progress::Unit::kBytes);
  return hash_files(files, [&](int64_t more) {
    throw_if_interrupted();
    progress.update(done += more, bytes, "");
  });
}

}  // namespace fewbits::cli
