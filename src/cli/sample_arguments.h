#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "calibrate/samples.h"

namespace fewbits::cli {

/// --samples and --sample-length. `options` must outlive the app.
void add_sample_options(CLI::App& verb, SampleOptions& options, const std::string& description);

}  // namespace fewbits::cli
