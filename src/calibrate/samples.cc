#include "calibrate/samples.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "base/error.h"
#include "calibrate/documents.h"

namespace fewbits {
namespace {

std::vector<Token> tokens_of(const Model& model, std::span<const std::filesystem::path> texts) {
  std::vector<Token> all;
  for (const auto& path : texts) {
    const auto tokens = read_documents(model, path);
    all.insert(all.end(), tokens.begin(), tokens.end());
  }
  return all;
}

}  // namespace

SampleSplit split_samples(int64_t count, double share) {
  const auto wanted = static_cast<int64_t>(std::max(2.0, std::round(1 / share)));
  const int64_t every = std::max<int64_t>(2, std::min(wanted, count));
  SampleSplit split;
  for (int64_t i = 0; i < count; ++i)
    (i % every == every - 1 ? split.held_out : split.learned).push_back(i);
  return split;
}

int64_t longest(std::span<const std::vector<Token>> samples) {
  size_t length = 0;
  for (const auto& sample : samples) length = std::max(length, sample.size());
  return static_cast<int64_t>(length);
}

int64_t tokens_in(std::span<const std::vector<Token>> samples) {
  int64_t tokens = 0;
  for (const auto& sample : samples) tokens += std::ssize(sample);
  return tokens;
}

std::vector<std::vector<Token>> take_samples(const Model& model,
                                             std::span<const std::filesystem::path> texts,
                                             const SampleOptions& options) {
  check(options.count > 0 && options.length > 0);
  const std::vector<Token> tokens = tokens_of(model, texts);
  const int64_t runs = static_cast<int64_t>(tokens.size()) / options.length;
  if (runs == 0) {
    throw Error(fmt::format("calibration text: {} tokens, at least {} are needed; give more text",
                            tokens.size(), options.length));
  }
  const int64_t count = std::min(options.count, runs);
  const Tokenizer& tokenizer = model.tokenizer;
  std::mt19937_64 random(options.seed);
  std::vector<std::vector<Token>> samples;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t begin = i * runs / count, end = (i + 1) * runs / count;
    // Modulo, since distributions differ between standard libraries.
    const auto further = static_cast<int64_t>(random() % static_cast<uint64_t>(end - begin));
    const int64_t run = options.seed == 0 ? begin : begin + further;
    const auto first = tokens.begin() + run * options.length;
    samples.emplace_back(first, first + options.length);
    if (tokenizer.adds_bos()) samples.back().front() = tokenizer.bos().value();
  }
  return samples;
}

}  // namespace fewbits
