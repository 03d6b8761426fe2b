#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

#include "model/model.h"

namespace fewbits {

/// Indices of the samples that a method learns from and of those that it is judged by.
struct SampleSplit {
  std::vector<int64_t> learned, held_out;
};

/// Holds out every so many-th of `count`, from all parts of the text, that `share` of them are; the
/// last where that would be none of several.
SampleSplit split_samples(int64_t count, double share);

/// Tokens of the longest; 0 where there is none.
int64_t longest(std::span<const std::vector<Token>> samples);

/// Tokens of all.
int64_t tokens_in(std::span<const std::vector<Token>> samples);

struct SampleOptions {
  int64_t count = 128;   ///< samples wanted
  int64_t length = 512;  ///< tokens in each
  uint64_t seed = 0;     ///< 0: the first of each stretch that one is taken from; else any of it
};

/// Samples for calibration: the tokens of all files (documents.h) are cut into runs of `length`,
/// these into `count` stretches of equal length, and one run is taken of each stretch, so that
/// every text counts by its size. The first token of each is BOS where the model adds one. Throws
/// Error where a file cannot be read or all together have fewer than `length` tokens; fewer than
/// `count` runs are taken as they are.
std::vector<std::vector<Token>> take_samples(const Model& model,
                                             std::span<const std::filesystem::path> texts,
                                             const SampleOptions& options);

}  // namespace fewbits
