#include "cli/sample_arguments.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "base/mapped_file.h"
#include "base/text_view.h"
#include "calibrate/text_overlap.h"
#include "cli/console.h"
#include "files/file_hash.h"
#include "pipeline/certificate.h"

namespace fewbits::cli {
namespace {

constexpr const char* kPassages = "passages";

/// Of every description in `json`. Files may have been written by anyone: what is no hash is none.
void collect_passages(const Json& json, TextSketch& sketch) {
  if (!json.is_structured()) return;
  for (const auto& [key, value] : json.items()) {
    if (key != kPassages || !value.is_array()) {
      collect_passages(value, sketch);
      continue;
    }
    for (const Json& hash : value) {
      if (!hash.is_string()) continue;
      const auto& digits = hash.get_ref<const std::string&>();
      uint64_t number = 0;
      std::from_chars(digits.data(), digits.data() + digits.size(), number, 16);
      sketch.push_back(number);
    }
  }
}

}  // namespace

void add_sample_options(CLI::App& verb, SampleOptions& options, const std::string& description) {
  verb.add_option("--samples", options.count, description)
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  verb.add_option("--sample-length", options.length, "Tokens in each")
      ->check(CLI::Range(16, 1 << 16))
      ->capture_default_str();
  verb.add_option("--sample-seed", options.seed,
                  "Other samples of the same text; 0: the first of each stretch")
      ->capture_default_str();
}

void fit_to_context(SampleOptions& options, const Model& model) {
  const int64_t context = model.config.context;
  if (context <= 0 || options.length <= context) return;
  warn(fmt::format("--sample-length: {} tokens, but the model was made for {}: so many are taken",
                   options.length, context));
  options.length = context;
}

Json describe_samples(const std::vector<std::filesystem::path>& texts,
                      const SampleOptions& options) {
  Json json = {{"texts", to_json(hash_files(texts, [](int64_t) {}))},
               {"samples", options.count},
               {"sample_length", options.length}};
  if (options.seed != 0) json["sample_seed"] = options.seed;
  Json& passages = json[kPassages] = Json::array();
  for (const uint64_t hash : sketch_of(texts)) passages.push_back(fmt::format("{:016x}", hash));
  return json;
}

void warn_of_overlap(const Json& recipe, std::string_view option, const std::string& text) {
  // Of 32: one may be a phrase that everybody uses.
  constexpr int64_t kNoChance = 2;
  TextSketch sketch;
  collect_passages(recipe, sketch);
  std::ranges::sort(sketch);
  sketch.erase(std::unique(sketch.begin(), sketch.end()), sketch.end());
  const MappedFile file = MappedFile::open(text);
  const int64_t found = passages_found(sketch, text_view(file.bytes()));
  if (found < kNoChance) return;
  warn(
      fmt::format("{} {}: the model is calibrated on this text, or on parts of it ({} of {} "
                  "passages are in it), and will look better on it than it is",
                  option, text, found, sketch.size()));
}

}  // namespace fewbits::cli
