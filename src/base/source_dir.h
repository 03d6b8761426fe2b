#pragma once

#include <filesystem>

namespace fewbits {

/// Where the repository lies: for tests, which read golden files from it. The build writes its
/// definition, so that no other object depends on the place.
std::filesystem::path source_dir();

}  // namespace fewbits
