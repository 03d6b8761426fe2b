#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "calibrate/samples.h"

namespace fewbits::cli {

/// --samples, --sample-length and --sample-seed. `options` must outlive the app.
void add_sample_options(CLI::App& verb, SampleOptions& options, const std::string& description);

/// Cuts the samples to what the model was made for, and says so.
void fit_to_context(SampleOptions& options, const Model& model);

/// What the samples were taken from, as certificates keep it: with a few passages' hashes, by which
/// warn_of_overlap knows the text again.
Json describe_samples(const std::vector<std::filesystem::path>& texts,
                      const SampleOptions& options);

/// Warns where `text`, given as `option`, holds passages of texts that a model was fitted to, which
/// describe_samples described somewhere in `recipe`.
void warn_of_overlap(const Json& recipe, std::string_view option, const std::string& text);

}  // namespace fewbits::cli
