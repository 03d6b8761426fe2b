#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

#include "model/tokenizer.h"

namespace fewbits {

/// Tokens of the longest; 0 where there is none.
int64_t longest(std::span<const std::vector<Token>> samples);

struct SampleOptions {
  int64_t count = 128;   ///< samples wanted
  int64_t length = 512;  ///< tokens in each
};

/// Samples for calibration: texts are tokenized, cut into runs of `length` tokens, and `count` of
/// the runs are taken at even distances, so that every text counts by its size. The first token of
/// each is BOS where the model adds one. Throws Error where a file cannot be read or all together
/// have fewer than `length` tokens; fewer than `count` runs are taken as they are.
std::vector<std::vector<Token>> take_samples(const Tokenizer& tokenizer,
                                             std::span<const std::filesystem::path> texts,
                                             const SampleOptions& options);

}  // namespace fewbits
