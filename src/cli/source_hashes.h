#pragma once

#include <string>
#include <vector>

#include "files/file_hash.h"

namespace fewbits::cli {

/// Of all files that these models consist of, with a bar. Reads each once; throws Interrupted.
std::vector<FileHash> hash_models(const std::vector<std::string>& models);

}  // namespace fewbits::cli
