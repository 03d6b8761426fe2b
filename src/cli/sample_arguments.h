#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <string>
#include <vector>

#include "base/json.h"
#include "calibrate/samples.h"

namespace fewbits::cli {

/// --samples and --sample-length. `options` must outlive the app.
void add_sample_options(CLI::App& verb, SampleOptions& options, const std::string& description);

/// What the samples were taken from, as certificates keep it.
Json describe_samples(const std::vector<std::filesystem::path>& texts,
                      const SampleOptions& options);

}  // namespace fewbits::cli
