#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "evaluate/evaluate.h"

// Semantic textual similarity (STS-B; Cer et al. 2017): people have scored how much two sentences
// mean the same, a model scores them by the cosine of their vectors, and what counts is how well
// the two orders agree.
namespace fewbits {

struct SentencePair {
  std::string first, second;
  double score = 0;
};

struct SentencePairs {
  std::string name;
  std::vector<SentencePair> pairs;
};

/// Whether the file is read as sentence pairs: its name ends in .csv.
bool is_sentence_pairs(const std::filesystem::path& path);

/// A CSV file without a header: sentence, sentence, score; `limit` rows at most, 0: all. Fields may
/// stand in double quotes, a quote in them doubled. Throws Error that names the line.
SentencePairs read_sentence_pairs(const std::filesystem::path& path, int64_t limit);

struct PairsComparison {
  Estimate reference_spearman;
  /// Of this model less the reference; bounds by resampling pairs.
  Estimate difference;
  double cosine_mean = 0, cosine_min = 0;  ///< of each sentence's two vectors
};

struct PairsResult {
  std::string task;
  int64_t items = 0;
  Estimate spearman;
  std::optional<PairsComparison> comparison;
};

/// Throws Error where the model is no encoder. Progress counts the pairs of both models.
PairsResult evaluate_pairs(const Evaluation& evaluation, const SentencePairs& pairs);

/// Spearman's rank correlation; equal values share their mean rank. NaN where one side is constant.
/// REQUIRES: as many of both.
double spearman(std::span<const double> a, std::span<const double> b);

/// Its 95 % interval by Fisher's z, with the standard error of Bonett and Wright (2000).
Estimate spearman_estimate(double correlation, int64_t items);

/// task, items, spearman, spearman_low, spearman_high, and with a reference reference_spearman,
/// spearman_difference (each with its bounds), cosine_mean, cosine_min.
Json facts_of(const PairsResult& result);

}  // namespace fewbits
