#include "cli/sample_arguments.h"

#include "files/file_hash.h"
#include "pipeline/certificate.h"

namespace fewbits::cli {

void add_sample_options(CLI::App& verb, SampleOptions& options, const std::string& description) {
  verb.add_option("--samples", options.count, description)
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  verb.add_option("--sample-length", options.length, "Tokens in each")
      ->check(CLI::Range(16, 1 << 16))
      ->capture_default_str();
}

Json describe_samples(const std::vector<std::filesystem::path>& texts,
                      const SampleOptions& options) {
  return {{"texts", to_json(hash_files(texts, [](int64_t) {}))},
          {"samples", options.count},
          {"sample_length", options.length}};
}

}  // namespace fewbits::cli
