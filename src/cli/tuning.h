#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/json.h"
#include "calibrate/samples.h"
#include "files/file_hash.h"
#include "pipeline/tune.h"

// Training of a quantized file's scales, by itself (`fewbits tune`) or as the last stage of
// `fewbits quantize`.
namespace fewbits::cli {

struct TuneArguments {
  std::string model, out, against;
  std::vector<std::filesystem::path> texts;
  SampleOptions samples;
  TuneOptions options;
  std::string certify;  ///< text to measure the loss on; "": none
  std::string time;     ///< at most, as in 8h; "": as the epochs take
  std::string memory;   ///< at most, as in 8G; "": a share of what is free
  bool restart = false;
  int threads = 0;
  bool json = false;
};

/// What the file carries as its source and recipe; of `fewbits tune` both files and what is asked.
struct TuneOrigin {
  std::vector<FileHash> source;
  Json recipe;
};

Json describe(const TuneArguments& arguments);

void tune(const TuneArguments& arguments, const TuneOrigin& origin);

/// What will stand in the way of tuning a file that is still to be made of `against`; "": nothing.
std::string why_not_tuned_later(const TuneArguments& arguments, const SampleOptions& samples);

/// "90s", "45m", "8h". Throws Error that begins with `option` where it is no time.
double parse_seconds(std::string_view option, const std::string& text);

}  // namespace fewbits::cli
