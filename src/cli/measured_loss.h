#pragma once

#include <filesystem>

#include "base/json.h"
#include "base/thread_pool.h"
#include "model/model.h"

namespace fewbits::cli {

/// What the file that was written loses against its source on a text, for its certificate.
Json measure_loss(const Model& source, const std::filesystem::path& file,
                  const std::filesystem::path& text_file, ThreadPool& pool);

}  // namespace fewbits::cli
